"""Make the built pages work from `file://` with the network off, or refuse them."""

from __future__ import annotations

import functools
import re
import shutil
from typing import TYPE_CHECKING

from chimera_lib import assets
from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from pathlib import Path

_MATHJAX = ("es5/tex-svg-full.js", "es5/a11y", "es5/sre", "es5/ui", "LICENSE")
_ELSEWHERE = r"\s*=\s*[\"']?(?:https?:)?//[^\"'\s>]*"
_LOADS = (
    re.compile(rf"<(?:script|img|iframe|source|embed)\b[^>]*?\ssrc{_ELSEWHERE}", re.IGNORECASE),
    re.compile(
        rf"<link\b(?=[^>]*\brel\s*=\s*[\"']?[\w ]*(?:stylesheet|preload|icon))[^>]*?\shref{_ELSEWHERE}", re.IGNORECASE
    ),
)
# Left out of every page. The theme asks for its icon fonts ahead of need, in a way that browsers refuse from file://;
# its style sheet asks for the same fonts in a way that they allow. Thebe would run cells on a server elsewhere; it is
# off, and what is left of it is declared twice, which is an error in itself.
_DROPPED = (
    re.compile(r"<link\b(?=[^>]*\brel=\"preload\")(?=[^>]*\bas=\"font\")[^>]*>\s*"),
    re.compile(r"<script>const THEBE_JS_URL[^<]*</script>\s*"),
    re.compile(r"<script\b[^>]*\bsrc=\"[^\"]*sphinx-thebe\.js[^\"]*\"[^>]*></script>\s*"),
    re.compile(r"<script type=\"text/x-thebe-config\">[^<]*</script>\s*"),
)


def complete(html: Path) -> None:
    """Finish the pages that Sphinx made: MathJax beside them, nothing in them that `file://` or no network breaks.

    Raises:
        AssetMissing: MathJax is not in the cache.
        ChimeraError: A page would load a script, style or picture from elsewhere.
    """
    add_mathjax(html)
    for page in sorted(html.rglob("*.html")):
        content = page.read_text(encoding="utf-8")
        if found := outside(content):
            where = page.relative_to(html)
            raise ChimeraError(f"{where} would load from the network: {found[:120]!r}; keep a copy in book/ instead")
        for pattern in _DROPPED:
            content = pattern.sub("", content)
        page.write_text(content, encoding="utf-8")


def outside(content: str) -> str:
    """Give the first tag of a page that would load something from elsewhere, or nothing. Links are no loads."""
    return next((found[0] for pattern in _LOADS if (found := pattern.search(content))), "")


def add_mathjax(html: Path) -> None:
    """Put MathJax beside the pages, not into `_static`, where jupyter-book has every page load every script.

    The variant that draws SVG: it needs no fonts, which some browsers refuse to load from `file://`.
    """
    source, target = assets.path("mathjax"), html / "mathjax"
    for name in _MATHJAX:
        copy = functools.partial(shutil.copytree, dirs_exist_ok=True) if (source / name).is_dir() else shutil.copyfile
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        copy(source / name, target / name)
