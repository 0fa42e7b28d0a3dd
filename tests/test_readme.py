"""The README's figures are those that the recorded commands measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from chimera_lib import recorded

ROOT = Path(__file__).resolve().parents[1]
FIGURES = [
    ("images-strategies", "lattice_verified_rate", "{:.1%}"),
    ("images-strategies", "lattice_evaluations", "{:.0f}"),
    ("images-strategies", "lattice_cpu_seconds", "{:.2f}"),
    ("images-strategies", "lattice_linf", "{:.0f}"),
    ("images-strategies", "boundary_straight_through_verified_rate", "{:.1%}"),
    ("images-strategies", "boundary_as_published_verified_rate", "{:.1%}"),
    ("images-unseen", "lattice_verified_rate", "{:.1%}"),
    ("images-submission", "score", "{:.3f}"),
    ("images-submission-pytorch", "score", "{:.3f}"),
    ("images-carried", "score", "{:.1%}"),
    ("images-kway", "lattice_kway_verified_rate", "{:.1%}"),
    ("images-targeted", "lattice_targeted_verified_rate", "{:.1%}"),
    ("images-efficientnet", "lattice_verified_rate", "{:.1%}"),
    ("images-assigned", "lattice_targeted_verified_rate", "{:.1%}"),
    ("images-held-out", "any_lattice_held_out_rate", "{:.1%}"),
    ("images-held-out", "lattice_robust_held_out_rate", "{:.1%}"),
    ("images-defences", "none_rate", "{:.1%}"),
    ("images-defences", "float64_products_rate", "{:.1%}"),
    ("ternary-optimizer", "resnet20_as_published_ratio", "{:.2f}"),
    ("ternary-optimizer", "20M_compiled_ratio", "{:.2f}"),
    ("ternary-layers", "chimera_ratio", "{:.2f}"),
    ("ternary-layers", "chimera_ratio_default_allocator", "{:.2f}"),
    ("ternary-packed", "2bit_times_smaller", "{:.2f}"),
    ("ternary-packed", "vector_2bit_over_fp32", "{:.2f}"),
    ("ternary-packed", "batch_2bit_over_fp32", "{:.2f}"),
]


@pytest.mark.parametrize(("name", "metric", "spec"), FIGURES)
def test_a_figure_is_what_was_recorded(name: str, metric: str, spec: str) -> None:
    record = recorded.read(ROOT / "book" / "recorded" / f"{name}.json")
    entry = record["metrics"][metric]
    said = spec.format(entry["value"])
    if "ci" in entry:
        low, high = entry["ci"]
        said += f" ({spec.format(low)} to {spec.format(high)})"
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("|")]
    assert [row for row in rows if said in row and f"`{name}`" in row], f"no row says {said} and names `{name}`"
    assert record["command"] in (ROOT / "README.md").read_text()
