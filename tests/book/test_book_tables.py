"""Tables of metrics in prose."""

from pathlib import Path

import pytest

from chimera_lib import recorded
from chimera_lib.book.quotes import Metrics
from chimera_lib.book.tables import expand
from chimera_lib.errors import ChimeraError

METRICS = {"noise_rate": 0.0, "lattice_rate": {"value": 1.0, "ci": [0.98, 1.0]}, "lattice_linf": 2}
BLOCK = """before

```{metrics-table}
source: recorded/long
rows: {random noise: noise, lattice: lattice}
columns: {found: rate|.0%, L∞: linf*}
```

after
"""


def test_a_block_becomes_a_table_of_its_metrics(tmp_path: Path) -> None:
    recorded.write(tmp_path / "long.json", "c", METRICS)
    assert expand(BLOCK, Metrics({}, tmp_path), "page.md").splitlines() == [
        "before",
        "",
        "|  | found | L∞ |",
        "|---|---|---|",
        "| random noise | 0% |  |",
        "| lattice | 100% (98% to 100%) | 2 |",
        "",
        "after",
    ]


def test_a_table_that_nobody_measured_is_said_to_be_so(tmp_path: Path) -> None:
    assert "Not measured yet" in expand(BLOCK, Metrics({}, tmp_path), "page.md")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rows: {random", "lines: {random", "needs exactly columns, rows, source"),
        ("{found: rate|.0%, L∞: linf*}", "[a, b]", "map what is shown"),
        ("{found: rate|.0%, L∞: linf*}", "{", "is not YAML"),
        ("{found: rate|.0%, L∞: linf*}", "{name: name|.1f}", "page.md: recorded/long:lattice_name"),
        ("lattice: lattice", "lattice: latice", "page.md: recorded/long:latice_rate"),
        ("rate|.0%", "rat|.0%", "page.md: recorded/long:noise_rat"),
        ("linf*", "lnf*", "no row has the column L∞"),
    ],
)
def test_a_block_that_is_none_names_its_page(tmp_path: Path, old: str, new: str, message: str) -> None:
    recorded.write(tmp_path / "long.json", "c", METRICS | {"lattice_name": "text", "noise_name": 1.0})
    with pytest.raises(ChimeraError, match=message) as caught:
        expand(BLOCK.replace(old, new), Metrics({}, tmp_path), "page.md")
    assert str(caught.value).startswith("page.md: ")
