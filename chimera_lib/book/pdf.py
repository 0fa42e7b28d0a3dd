"""One prose page of the built book as a PDF, typeset by Pandoc and Typst: two packages, no TeX and no browser.

It starts from the staged page, in which every number has been filled in and every table written out. What only the
site knows (links between pages, roles and directives of MyST) is turned into Pandoc's Markdown first.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from chimera_lib.errors import ChimeraError, UnknownName

if TYPE_CHECKING:
    from re import Match

_CITATION = re.compile(r"\{cite:([pt])\}`([^`]+)`")
_ROLE = re.compile(r"\{(?:term|doc|ref|numref)\}`([^`<]+?)(?:\s*<[^`>]*>)?`")
_FIGURE = re.compile(r"^```\{figure\} (?P<path>\S+)\n---\n(?P<options>.*?)---\n(?P<caption>.*?)^```$", re.M | re.S)
_DIRECTIVE = re.compile(r"^(?:`{3,}|:{3,})\{([\w:-]+)\}", re.M)
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?://)[^)\s]+\)")
_TITLE = re.compile(r"^# (.+)\n")
# A4, numbered pages, and tables that are set smaller than the text, ruled above and below.
_STYLE = """
#set page(paper: "a4", margin: (x: 2.4cm, y: 2.6cm), numbering: "1")
#set text(font: "Libertinus Serif", size: 10.5pt, lang: "en")
#set par(justify: true)
#show table: set text(size: 9pt)
#show table: set par(justify: false)
#set table(stroke: none, inset: 4pt)
#show figure: set block(breakable: false)
#show figure.where(kind: table): set block(breakable: true)
"""


def export(page: str, target: Path, *, stage: Path) -> Path:
    """Typeset a page.

    Args:
        page: its name among the book's prose pages, e.g. ``"ternary-note"``.
        target: the PDF; an older one is replaced once the new one is whole.
        stage: the staged book, ``build/stage`` after ``make book``.

    Returns:
        ``target``.

    Raises:
        UnknownName: there is no such page.
        ChimeraError: the book has not been built, the packages are missing, or the page holds what a PDF cannot show.
    """
    folder = stage / "book"
    if not folder.is_dir():
        raise ChimeraError(f"no staged book in {stage}: build it first with make book")
    source = folder / f"{page}.md"
    if not source.is_file():
        raise UnknownName("page", page, sorted(path.stem for path in folder.glob("*.md")))
    try:
        import pypandoc
        import typst
    except ImportError as error:
        raise ChimeraError(f"a PDF needs the package {error.name}: pip install 'chimera-lib[pdf]'") from error
    title, text = pandoc_markdown(source.read_text(encoding="utf-8"), page)
    with tempfile.TemporaryDirectory() as work:
        style, typeset = Path(work) / "style.typ", Path(work) / "page.typ"
        style.write_text(_STYLE, encoding="utf-8")
        arguments = ["--standalone", "--citeproc", f"--bibliography={folder / 'references.bib'}"]
        arguments += [f"--metadata=title={title}", f"--include-in-header={style}", "--metadata=link-citations=false"]
        arguments += ["--metadata=reference-section-title=References"]
        pypandoc.convert_text(text, "typst", format="markdown", extra_args=arguments, outputfile=str(typeset))
        # Pictures are named from the page's folder; Typst reads nothing outside of its root.
        body = re.sub(r'image\("\.\./', f'image("{stage.resolve().as_posix()}/', typeset.read_text(encoding="utf-8"))
        typeset.write_text(body, encoding="utf-8")
        try:
            content = typst.compile(str(typeset), root="/", format="pdf")
        except typst.TypstError as error:
            raise ChimeraError(f"{page} cannot be typeset: {error}") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_bytes(content)
    return partial.replace(target)


def pandoc_markdown(text: str, page: str) -> tuple[str, str]:
    """The title of a MyST page, and the rest of it in Pandoc's Markdown.

    Raises:
        ChimeraError: it has no title, or a directive that has no counterpart.
    """
    title = _TITLE.match(text)
    if title is None:
        raise ChimeraError(f"{page} does not begin with a title")
    text = _FIGURE.sub(_figure, text[title.end() :])
    if unknown := _DIRECTIVE.search(text):
        raise ChimeraError(f"{page} has a {{{unknown[1]}}} block, which a PDF cannot show; it knows figures only")
    text = _CITATION.sub(_citation, text)
    text = _ROLE.sub(r"\1", text)
    return title[1], _LINK.sub(r"\1", text)


def _figure(match: Match[str]) -> str:
    caption = " ".join(match["caption"].split())
    return f"![{caption}]({match['path']}){{width=100%}}\n"


def _citation(match: Match[str]) -> str:
    keys = [f"@{key.strip()}" for key in match[2].split(",")]
    return f"[{'; '.join(keys)}]" if match[1] == "p" else " and ".join(keys)
