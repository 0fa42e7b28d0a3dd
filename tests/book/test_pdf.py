"""A page of the book becomes a PDF with its formulas, tables, figures and references."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from chimera_lib.book import pdf
from chimera_lib.errors import ChimeraError, UnknownName

if TYPE_CHECKING:
    from pathlib import Path

PAGE = r"""# A note on gates

An {term}`optimizer` of momentum {cite:p}`kingma2015adam`, see [the page](../notebooks/ternary/01-gate.ipynb).

$$
\mathbb{E}\,\psi = \frac{2}{\pi} \arcsin\sqrt{1-\beta_1^2}
$$

```{figure} ../figures/a.png
---
name: fig-a
alt: a line
---
A figure's caption.
```

| what | value |
|---|---|
| floor | 0.287 |
"""
BIB = "@article{kingma2015adam, author={Kingma, Diederik and Ba, Jimmy}, title={Adam}, journal={ICLR}, year={2015}}"


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    (tmp_path / "stage" / "book").mkdir(parents=True)
    (tmp_path / "stage" / "figures").mkdir()
    (tmp_path / "stage" / "book" / "note.md").write_text(PAGE)
    (tmp_path / "stage" / "book" / "references.bib").write_text(BIB)
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, 1])
    with mpl.rc_context({"figure.constrained_layout.use": False}):
        figure.savefig(tmp_path / "stage" / "figures" / "a.png")
    return tmp_path / "stage"


def test_a_page_is_typeset(stage: Path, tmp_path: Path) -> None:
    made = pdf.export("note", tmp_path / "out" / "note.pdf", stage=stage)
    content = made.read_bytes()
    assert content.startswith(b"%PDF-") and b"%%EOF" in content[-32:]
    assert b"/Subtype /Image" in content or b"/Subtype/Image" in content  # the figure is in it
    assert sorted(path.name for path in made.parent.iterdir()) == ["note.pdf"]
    (stage / "book" / "note.md").write_text(PAGE.replace("```{figure}", "```{dropdown}"))
    with pytest.raises(ChimeraError, match=r"has a \{dropdown\} block"):
        pdf.export("note", made, stage=stage)
    assert made.read_bytes() == content  # what failed leaves the old one


def test_markdown_of_the_book_becomes_that_of_pandoc() -> None:
    title, text = pdf.pandoc_markdown(PAGE, "note")
    assert title == "A note on gates"
    assert "An optimizer of momentum [@kingma2015adam], see the page." in text
    assert "![A figure's caption.](../figures/a.png){width=100%}" in text
    assert r"\frac{2}{\pi}" in text and "| floor | 0.287 |" in text
    assert pdf.pandoc_markdown("# T\n{cite:t}`a` and {cite:p}`b,c`", "x")[1] == "@a and [@b; @c]"


def test_what_is_missing_is_named(stage: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'note'"):
        pdf.export("not", tmp_path / "n.pdf", stage=stage)
    with pytest.raises(ChimeraError, match="make book"):
        pdf.export("note", tmp_path / "n.pdf", stage=tmp_path / "none")
    with pytest.raises(ChimeraError, match="does not begin with a title"):
        pdf.pandoc_markdown("no title", "note")
