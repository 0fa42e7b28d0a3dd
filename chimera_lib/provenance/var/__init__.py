"""VAR: images as tokens of growing resolution, and a transformer over them (Tian et al. 2024, arXiv 2404.02905)."""

from chimera_lib.provenance.truncation import truncate
from chimera_lib.provenance.var.configurations import build_tokenizer, build_transformer
from chimera_lib.provenance.var.initialisation import initialise
from chimera_lib.provenance.var.quantizer import MultiScaleQuantizer
from chimera_lib.provenance.var.soft_assignment import Assignment, optimise, refine
from chimera_lib.provenance.var.transformer import VAR
from chimera_lib.provenance.var.vqvae import VQVAE

__all__ = [
    "VAR",
    "VQVAE",
    "Assignment",
    "MultiScaleQuantizer",
    "build_tokenizer",
    "build_transformer",
    "initialise",
    "optimise",
    "refine",
    "truncate",
]
