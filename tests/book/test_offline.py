"""Pages that would ask the network for something are refused."""

from pathlib import Path

import pytest

from chimera_lib.book import offline
from chimera_lib.errors import ChimeraError


@pytest.mark.parametrize(
    "tag",
    [
        '<script src="https://cdn.example.org/a.js"></script>',
        "<script async src='//cdn.example.org/a.js'></script>",
        '<img alt="a" src="http://example.org/a.png">',
        "<IMG SRC=https://example.org/a.png>",
        '<link rel="stylesheet" href="https://example.org/a.css">',
        '<link href="https://example.org/a.woff2" as="font" rel="preload">',
        '<link rel="shortcut icon" href="https://example.org/a.ico">',
        '<iframe src="https://example.org/"></iframe>',
    ],
)
def test_what_loads_from_elsewhere_is_found(tag: str) -> None:
    assert offline.outside(f"<p>text</p>\n{tag}")


@pytest.mark.parametrize(
    "tag",
    [
        '<a href="https://example.org/">a link</a>',
        '<script src="../_static/a.js"></script>',
        '<img src="data:image/png;base64,//8=">',
        '<link rel="next" href="b.html">',
        '<link rel="canonical" href="https://example.org/">',
        "<script>const x = 'https://example.org/a.js';</script>",
    ],
)
def test_what_only_links_or_lies_beside_the_page_passes(tag: str) -> None:
    assert not offline.outside(tag)


def test_a_site_is_completed_or_its_page_named(mathjax: Path, tmp_path: Path) -> None:
    html = tmp_path / "html"
    (html / "deep").mkdir(parents=True)
    preload = '<link rel="preload" as="font" type="font/woff2" crossorigin href="a.woff2">'
    thebe = (
        '<script>const THEBE_JS_URL = "https://example.org/index.js"; const x = 1</script>\n'
        '<script async="async" src="../_static/sphinx-thebe.js?v=1"></script>\n'
        '<script type="text/x-thebe-config">\n{ requestKernel: true }\n</script>'
    )
    (html / "index.html").write_text(f"<head>{preload}{thebe}</head><body>text</body>")
    offline.complete(html)
    assert (html / "index.html").read_text() == "<head></head><body>text</body>"
    mathematics = html / "mathjax" / "es5" / "tex-svg-full.js"
    assert mathematics.read_bytes() == (mathjax / "es5" / "tex-svg-full.js").read_bytes()
    (html / "deep" / "page.html").write_text('<img src="https://example.org/a.png">')
    with pytest.raises(ChimeraError, match=r"deep/page\.html would load from the network"):
        offline.complete(html)
