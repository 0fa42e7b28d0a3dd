"""The built book in a browser, opened as files with the network off, wide and narrow, light and dark.

Needs Debian's chromium (`apt-get install chromium`) and the built book: `$CHIMERA_BOOK`, or `build/html` of the
checkout. The slider's own test needs chromium alone.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from chimera_lib import widgets

CHROMIUM = shutil.which("chromium")
BOOK = Path(os.environ.get("CHIMERA_BOOK") or Path(__file__).resolve().parents[2] / "build" / "html")
RAW_TEX = re.compile(r"\$[^$\n]{1,200}\$|\\(?:frac|sum|text|mathrm|le|ge|begin|left)\b|\\[(\[]")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)"),
]

# Everything about a page that a reader would notice, in one call. Text in code is code, not left-over mathematics.
INSPECT = """async () => {
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  const shown = e => e.getClientRects().length > 0, begin = e => e.outerHTML.slice(0, 120);
  const all = (selector, test) => [...document.querySelectorAll(selector)].filter(test);
  const named = e => e.getAttribute("role") && (e.getAttribute("aria-label") || "").trim();
  const flat = e => !(e.getBoundingClientRect().width > 0);
  // A picture outside of the window may be waiting; ask for it, and it must come.
  await Promise.all([...document.images].map(i => i.decode().catch(() => null)));
  const copy = (document.querySelector("article") || document.body).cloneNode(true);
  copy.querySelectorAll("code, pre, script, style, mjx-container, .highlight").forEach(e => e.remove());
  const root = document.documentElement, overflow = root.scrollWidth - root.clientWidth;
  const beyond = e => shown(e) && e.getBoundingClientRect().right > root.clientWidth + 1;
  return {
    text: copy.textContent,
    overflow: overflow,
    wide: overflow > 0 ? all("body *", beyond).slice(0, 5).map(begin) : [],
    emptyImages: [...document.images].filter(i => !(i.naturalWidth > 0)).map(begin),
    noAlt: all("article img, .cell_output img, figure img", i => i.alt.trim().length < 15).map(begin),
    nameless: all("div[tabindex='0'], figure[tabindex='0']", e => !named(e)).map(begin),
    emptyFigures: all("figure", f => !f.querySelector("img, svg, canvas, table")).map(begin),
    mathLeft: all(".math", m => shown(m) && !m.querySelector("mjx-container")).map(begin),
    mathWrong: all("mjx-merror, [data-mjx-error]", () => true).map(m => m.textContent),
    mathEmpty: all("mjx-container", m => shown(m) && flat(m)).map(begin),
    deadWidgets: all('.jupyter-widgets, [type^="application/vnd.jupyter.widget"]', () => true).map(begin),
    icons: all("svg.svg-inline--fa, i[class*=fa-]", e => shown(e) && flat(e)).map(begin),
  };
}"""

LABELS = ["a wholly dark one", "a half bright one", "bright as <white>"]
TURN = """box => {
  const slider = box.querySelector("input"), frames = [...box.querySelectorAll("img")];
  const seen = [];
  for (let i = 0; i <= Number(slider.max); i++) {
    slider.value = i;
    slider.dispatchEvent(new Event("input", {bubbles: true}));
    const visible = frames.map((f, k) => f.getClientRects().length ? k : -1).filter(k => k >= 0);
    seen.push([visible, box.querySelector("output").textContent]);
  }
  return {disabled: slider.disabled, labels: frames.map(f => f.alt), seen};
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # As root, which containers often are, Chromium runs without its sandbox or not at all; the pages are ours.
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


def open_offline(browser: Any, width: int, scheme: str) -> tuple[Any, list[str]]:
    """A page without a network, and the list that fills with what goes wrong in it."""
    wrong: list[str] = []

    def refuse(route: Any) -> None:
        wrong.append(f"asked the network for {route.request.url[:150]}")
        route.abort()

    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    context.route(re.compile(r"^(https?|wss?):"), refuse)
    page = context.new_page()
    page.on("console", lambda said: wrong.append(f"console: {said.text[:200]}") if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(f"script: {str(error)[:200]}"))
    page.on("requestfailed", lambda request: wrong.append(f"could not load {request.url[:150]}"))
    return page, wrong


def faults(found: dict[str, Any]) -> list[str]:
    """What `INSPECT` found that should not be."""
    empty = ["emptyImages", "noAlt", "nameless", "emptyFigures", "mathLeft", "mathWrong", "mathEmpty"]
    empty += ["deadWidgets", "icons"]
    wrong = [f"{name}: {found[name]}" for name in empty if found[name]]
    wrong += [f"raw TeX: {match}" for match in RAW_TEX.findall(found["text"])[:3]]
    if found["overflow"] > 0:
        wrong.append(f"scrolls sideways by {found['overflow']} px: {found['wide']}")
    return wrong


def turned(page: Any) -> list[str]:
    """Turn every slider on the page; each place must show its own frame and say its label."""
    wrong = []
    for box in page.query_selector_all("[data-stepper]"):
        state = box.evaluate(TURN)
        if state["disabled"] or state["seen"] != [[[i], label] for i, label in enumerate(state["labels"])]:
            wrong.append(f"a slider does not turn: {state['seen'][:3]}")
    return wrong


def pages() -> list[Path]:
    """Every page of the book; the theme keeps templates of its own among its static files."""
    return sorted(path for path in BOOK.rglob("*.html") if "_static" not in path.relative_to(BOOK).parts)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.skipif(not (BOOK / "index.html").is_file(), reason=f"no built book in {BOOK} (make book, or CHIMERA_BOOK)")
def test_every_page_of_the_book_is_whole(browser: Any, width: int, scheme: str) -> None:
    page, wrong = open_offline(browser, width, scheme)
    assert len(pages()) > 5
    seen: dict[str, list[str]] = {}
    for path in pages():
        page.goto(path.as_uri())
        page.wait_for_selector(
            "main", state="attached", timeout=10_000
        )  # the very first page forwards to the landing page
        page.wait_for_load_state("load")
        name = path.relative_to(BOOK).as_posix()
        found = [*faults(page.evaluate(INSPECT)), *turned(page), *wrong]
        assert page.evaluate("document.documentElement.dataset.theme") == scheme, name
        if found:
            seen[name] = found.copy()
        wrong.clear()
    assert seen == {}


@pytest.mark.skipif(not (BOOK / "index.html").is_file(), reason=f"no built book in {BOOK} (make book, or CHIMERA_BOOK)")
def test_no_link_inside_the_book_leads_nowhere(browser: Any) -> None:
    page, _ = open_offline(browser, 1280, "light")
    places: dict[Path, set[str]] = {}
    links: dict[Path, set[str]] = {}
    for path in pages():
        page.goto(path.as_uri())
        page.wait_for_selector("main", state="attached", timeout=10_000)
        here = Path(unquote(urlsplit(page.url).path))  # the very first page forwards to another
        places[here] = set(page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)"))
        links[here] = set(page.evaluate("[...document.links].map(a => a.href)"))
    assert any("#" in link for some in links.values() for link in some)
    assert dead(links, places) == []


def dead(links: dict[Path, set[str]], places: dict[Path, set[str]]) -> list[str]:
    """Links to files that are not there, or to places that a page does not have; each page's links and ids by path."""
    wrong = []
    for page, some in links.items():
        for link in map(urlsplit, some):
            target, place = Path(unquote(link.path)), unquote(link.fragment)
            if link.scheme != "file":
                continue
            if not target.is_file() or (place and target in places and place not in places[target]):
                wrong.append(f"{page.name} -> {target.name}#{place}")
    return sorted(wrong)


def test_a_dead_link_and_a_dead_place_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.touch()
    addresses = {page.as_uri() + end for end in ("", "#", "#here", "#gone")} | {"https://example.org/#x"}
    links = {page: addresses | {(tmp_path / "none.html").as_uri()}}
    assert dead(links, {page: {"here"}}) == ["page.html -> none.html#", "page.html -> page.html#gone"]


@pytest.mark.skipif(not (BOOK / "index.html").is_file(), reason=f"no built book in {BOOK} (make book, or CHIMERA_BOOK)")
def test_a_search_from_a_file_finds_a_page(browser: Any) -> None:
    page, wrong = open_offline(browser, 1280, "light")
    page.goto((BOOK / "search.html").as_uri() + "?q=boundary")
    page.wait_for_selector("#search-results li a", timeout=10_000)
    page.wait_for_function("!document.querySelector('#search-results h2').textContent.includes('Searching')")
    found = page.evaluate("[...document.querySelectorAll('#search-results li a')].map(a => a.href)")
    assert any("02-boundary.html" in link for link in found), found
    page.wait_for_timeout(500)  # what a result would still load
    assert wrong == []


def test_the_stepper_turns_without_kernel_or_network(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHIMERA_RUN_DIR", str(tmp_path))
    frames = [np.full((32, 32, 3), shade, np.uint8) for shade in (0, 120, 250)]
    html = "".join(widgets.stepper(frames, LABELS, caption).data for caption in ("first", "second"))
    (tmp_path / "page.html").write_text(f"<!doctype html><meta charset=utf-8><article>{html}</article>")
    page, wrong = open_offline(browser, 390, "light")
    page.goto((tmp_path / "page.html").as_uri())
    assert page.locator("output").first.text_content() == f"1 / 3 · {LABELS[0]}"
    page.locator("input").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator("output").all_text_contents() == [f"3 / 3 · {LABELS[2]}", f"1 / 3 · {LABELS[0]}"]
    assert turned(page) == []
    assert faults(page.evaluate(INSPECT)) == []
    assert wrong == []


def test_the_inspection_finds_what_it_looks_for(browser: Any, tmp_path: Path) -> None:
    bad = (
        '<article>left $x^2$ and \\frac{1}{2}<span class="math">\\(y\\)</span><figure id="f"></figure>'
        '<div class="cell_output"><img src="none.png"></div><div class="jupyter-widgets">w</div>'
        '<div data-stepper="1"><input type="range" max="1"><img alt="a"><img alt="b"><output></output></div>'
        '<div style="width:3000px" tabindex="0">wide</div><script src="https://example.org/a.js"></script></article>'
    )
    (tmp_path / "bad.html").write_text(f"<!doctype html><meta charset=utf-8>{bad}")
    page, wrong = open_offline(browser, 390, "light")
    page.goto((tmp_path / "bad.html").as_uri())
    said = " ".join([*faults(page.evaluate(INSPECT)), *turned(page), *wrong])
    for fault in (
        "raw TeX: $x^2$",
        "raw TeX: \\frac",
        "mathLeft",
        "emptyFigures",
        "emptyImages",
        "noAlt",
        "nameless",
        "deadWidgets",
        "a slider does not turn",
        "scrolls sideways",
        "asked the network for https://example.org/a.js",
    ):
        assert fault in said, said
