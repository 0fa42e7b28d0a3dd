"""The report page: one HTML file with everything in it, for a browser without a network, on paper white or dark."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING, Any

from chimera_lib.images.audit.report import left_out, one_in, said

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from chimera_lib.images.audit.report import Report

THUMBNAIL = 192  # pixels of the longer side; smaller pictures stay as they are and are enlarged unsmoothed
SHOWN = 24  # conflicts with a picture on the page

_STYLE = """
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --faint: #666; --line: #ddd; --card: #f5f6f8;
  --good: #00694b; --bad: #a33c00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #16181d; --faint: #a5a9b3; --line: #3a3e48;
  --card: #20232b; --good: #2fd6a5; --bad: #ff9a5c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
.verdict { font-size: 1.15rem; padding: .9rem 1rem; background: var(--card); border-left: .4rem solid var(--good);
  margin: 0 0 1rem; overflow-wrap: anywhere; }
.verdict.bad { border-color: var(--bad); }
.note, figcaption, dt { color: var(--faint); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 0; }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 34rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; } }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); gap: 1rem; }
.tiles figure { margin: 0; background: var(--card); padding: .6rem; min-width: 0; }
.tiles img { width: 100%; aspect-ratio: 1; object-fit: contain; display: block; }
.tiles img.small { image-rendering: pixelated; }
.tiles figcaption { font-size: .85rem; margin-top: .4rem; overflow-wrap: anywhere; }
.tiles b { color: var(--ink); font-weight: 600; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .3rem; }
.plot img { width: 100%; max-width: 40rem; height: auto; display: block; }
.plot { margin: 0; }
code { font-size: .9em; overflow-wrap: anywhere; }
"""


def thumbnail(image: np.ndarray) -> str:
    """A picture, uint8 (H, W, C), as a PNG in a data URI, at most ``THUMBNAIL`` pixels a side."""
    from PIL import Image

    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return data_uri(buffer.getvalue())


def data_uri(png: bytes) -> str:
    """A PNG file's bytes as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def page(
    report: Report, thumbnails: Mapping[str, str], made: Sequence[str | None], plots: tuple[bytes, bytes], alt: str
) -> str:
    """The whole page.

    Args:
        report: what ``report.describe`` gave.
        thumbnails: data URIs of conflicting and nearest images by name.
        made: data URIs of the chimeras found by the searches, in their order; None where none was found.
        plots: the figure as PNG, for a light and for a dark page.
        alt: what the figure shows.
    """
    sections = [
        _conflicts(report, thumbnails),
        _margins(report, thumbnails, plots, alt),
        _made(report, thumbnails, made),
        _backends(report),
        _images(report),
        _origin(report),
    ]
    bad = " bad" if report["conflicts"]["count"] else ""
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Audit of {escape(report["model"]["name"] or "a network")}</title><style>{_STYLE}</style></head><body><main>
<h1>Audit of {escape(report["model"]["name"] or "a network")}</h1>
<p class="verdict{bad}">{escape(report["verdict"])}</p>
{"".join(sections)}
</main></body></html>
"""


def _tile(report: Report, one: dict[str, Any], uri: str, note: str) -> str:
    """One picture with its name, who says what, and a note."""
    text = said(report, one["classes"])
    small = ' class="small"' if max(report["model"]["input_shape"][1:]) <= 64 else ""
    return (
        f'<figure><img{small} src="{uri}" alt="{escape(one["name"])}: {escape(text)}">'
        f"<figcaption><b>{escape(one['name'])}</b><br>{escape(text)}<br>{escape(note)}</figcaption></figure>"
    )


def _margin_note(one: dict[str, Any]) -> str:
    return f"margin {one['margin']:.3g}, spread {one['spread']:.1e}"


def _conflicts(report: Report, thumbnails: Mapping[str, str]) -> str:
    conflicts, expected = report["conflicts"], report["expected"]
    low, high = conflicts["ci"]
    parts = [
        f"<h2>Conflicts</h2><p>{conflicts['count']} of {report['images']['n']} images: a rate of "
        f"{conflicts['rate']:.2%}, exact 95 % interval {low:.3%} to {high:.3%} for images drawn as these were.</p>"
    ]
    if expected:
        low, high = expected["ci"]
        parts.append(
            f"<p>Margins and noise lead one to expect a conflict in <b>{one_in(expected['rate'])}</b> such images "
            f"({one_in(high)} to {one_in(low)}). <span class='note'>The {expected['k']} smallest margins give the "
            "density of margins near zero; times half the mean spread of the backends, that is the share of images "
            "whose sign falls between them. It assumes that the density stays flat below the smallest margins; the "
            "interval is for the chance of which images were drawn.</span></p>"
        )
    shown = conflicts["images"][:SHOWN]
    if shown:
        tiles = [
            _tile(
                report, one, thumbnails[one["name"]], _margin_note(one) + ("" if one["confirmed"] else "; not repeated")
            )
            for one in shown
        ]
        parts.append(f'<div class="tiles">{"".join(tiles)}</div>')
    if len(conflicts["images"]) > SHOWN:
        rest = [
            f"<tr><td>{escape(o['name'])}<td>{escape(said(report, o['classes']))}" for o in conflicts["images"][SHOWN:]
        ]
        parts.append(f'<div class="scroll"><table><tr><th>image<th>classes{"".join(rest)}</table></div>')
    return "".join(parts)


def _margins(report: Report, thumbnails: Mapping[str, str], plots: tuple[bytes, bytes], alt: str) -> str:
    light, dark = (data_uri(plot) for plot in plots)
    noise, margins = report["noise"], report["margins"]
    within = "".join(
        f"<tr><td>{int(factor):,} &times; noise<td class='number'>{count}"
        for factor, count in margins["within"].items()
    )
    tiles = [_tile(report, one, thumbnails[one["name"]], _margin_note(one)) for one in margins["nearest"]]
    return (
        "<h2>Margins against noise</h2>"
        f'<figure class="plot"><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{escape(alt)}" width="720" height="570"></picture></figure>'
        f"<p>The margin is the distance of the two highest logits, the spread how far the backends differ in it. "
        f"On 99 of 100 images the spread is below {noise['unit']:.2e} logits, which is called the noise here; the "
        f"largest is {noise['largest']:.2e}. The smallest margin is {margins['smallest']:.3g}, the median "
        f"{margins['median']:.3g}.</p>"
        f'<div class="scroll"><table><tr><th>margin below<th class="number">images{within}</table></div>'
        f'<h2>Nearest without a conflict</h2><div class="tiles">{"".join(tiles)}</div>'
    )


def _made(report: Report, thumbnails: Mapping[str, str], made: Sequence[str | None]) -> str:
    if report["made"] is None:
        return "<h2>Can conflicts be made?</h2><p>No search was asked for (<code>--search</code>).</p>"
    small = ' class="small"' if max(report["model"]["input_shape"][1:]) <= 64 else ""
    tiles = []
    for one, uri in zip(report["made"]["images"], made, strict=True):
        name = escape(one["name"])
        if uri is None:
            tiles.append(f"<figure><figcaption><b>{name}</b><br>none in {one['evaluations']} evaluations</figure>")
            continue
        text = escape(said(report, one["classes"]))
        again = "confirmed by fresh processes" if one["confirmed"] else "not repeated"
        tiles.append(
            f'<figure><div class="pair"><img{small} src="{thumbnails[one["name"]]}" alt="{name}, as it is">'
            f'<img{small} src="{uri}" alt="{name}, changed: {text}"></div>'
            f"<figcaption><b>{name}</b>, and changed by at most {one['linf']} of 255 in {one['l0']} values<br>"
            f"{text}<br>{one['evaluations']} forward evaluations, {one['oracle_calls']} shown to the backends; {again}"
            "</figcaption></figure>"
        )
    counts = f"{report['made']['found']} of {report['made']['searches']}"
    return (
        f"<h2>Can conflicts be made?</h2><p>From {counts} images, drawn at random, a search that knows the model and "
        "asks the backends reached a picture on which they disagree. These "
        f'pictures are no part of the rates above.</p><div class="tiles">{"".join(tiles)}</div>'
    )


def _backends(report: Report) -> str:
    rows = []
    for one in report["backends"]:
        away = "" if one["largest_difference"] is None else f"{one['largest_difference']:.1e}"
        rows.append(
            f"<tr><td>{escape(one['name'])}<td>{escape(one['version'])}<td>{escape(one['kernels'])}"
            f"<td class='number'>{one['bit_class'] or 'lost'}<td class='number'>{away}"
            f"<td class='number'>{one['answered']}"
        )
    out = (
        '<h2>Backends</h2><div class="scroll"><table><tr><th>backend<th>version<th>kernels<th class="number">bits'
        f'<th class="number">largest difference<th class="number">answered{"".join(rows)}</table></div>'
        "<p class='note'>Equal numbers under bits: equal logits, to the last bit, on all these images. "
        "The difference is of a margin, in logits, from the first backend. Each ran in a process of its own, one image "
        "at a time, on one thread.</p>"
    )
    for what, title in (("lost", "Lost midway"), ("missing", "Not on this machine")):
        out += _listed(report[what], title)
    return out


def _listed(reasons: Mapping[str, str], title: str) -> str:
    """Names with reasons, closed until the reader opens it; nothing where there are none."""
    if not reasons:
        return ""
    items = "".join(f"<tr><td>{escape(name)}<td>{escape(why)}" for name, why in reasons.items())
    return (
        f'<details><summary>{title}: {len(reasons)}</summary><div class="scroll"><table>{items}</table></div></details>'
    )


def _images(report: Report) -> str:
    images = report["images"]
    parts = ["<h2>Images</h2>", f"<p>{images['n']} images from <code>{escape(str(images['folder']))}</code>"]
    parts.append(", cropped at the centre and scaled.</p>" if images["resized"] else ".</p>")
    if images["duplicates"]:
        parts.append(
            f"<p>{images['duplicates']} of them repeat an earlier one byte for byte; intervals assume none.</p>"
        )
    parts.append(_listed(images["skipped"], "Skipped, as they cannot be read"))
    parts.append(_listed(images["converted"], "Converted from another colour mode"))
    return "".join(parts)


def _origin(report: Report) -> str:
    model = report["model"]
    facts = {
        "command": report["command"] or "",
        "network": f"sha256 {model['sha256']}, input {model['input_shape']}, normalise {model['normalise']}",
        "date": report["date"],
        "machine": report["machine"],
        "versions": ", ".join(f"{name} {version}" for name, version in report["versions"].items()),
        "revision": report["revision"] or "no git checkout",
    }
    rows = "".join(f"<dt>{name}</dt><dd><code>{escape(str(value))}</code></dd>" for name, value in facts.items())
    note = f"<p>{escape(left_out(report))}</p>" if left_out(report) else ""
    return f"<h2>What made this</h2>{note}<dl>{rows}</dl>"
