"""The examples in Python that pages and README show run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from chimera_lib.ternary.resnet import ChimeraResNet20

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[str]:
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


def test_the_page_of_part_three_trains_and_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = blocks("book/ternary.md")
    monkeypatch.chdir(tmp_path)
    names = {"network": ChimeraResNet20("fp32_baseline", width=4)}
    exec(compile(example, "book/ternary.md", "exec"), names)  # noqa: S102  (our own page)
    assert (tmp_path / "network.safetensors").stat().st_size > 0


def test_the_readme_converts_a_network() -> None:
    (example,) = [block for block in blocks("README.md") if "ternary" in block]
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102
    model = names["model"]
    assert isinstance(model, ChimeraResNet20)
    assert {name for name, module in model.named_modules() if hasattr(module, "quantizer")} >= {"blocks.0.conv1"}
