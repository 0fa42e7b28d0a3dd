"""Put an audit's report into its folder, last of all, so that a report that is there belongs to a finished audit."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from chimera_lib.images.audit import figure, page, report
from chimera_lib.images.campaign import write_whole
from chimera_lib.images.png import png_bytes
from chimera_lib.plotting import png

if TYPE_CHECKING:
    from pathlib import Path

    from chimera_lib.images.audit.reading import Pictures
    from chimera_lib.images.audit.result import Audit

JSON, PAGE, MADE, UNFINISHED = "report.json", "report.html", "made", "unfinished"


def begin(output: Path) -> Path:
    """Take an earlier report out of ``output``; returns the folder where answers are kept until the end."""
    output.mkdir(parents=True, exist_ok=True)
    for name in (JSON, PAGE):
        (output / name).unlink(missing_ok=True)
    if (output / MADE).is_dir():
        for old in (output / MADE).glob("[0-9][0-9][0-9].png"):
            old.unlink()
    return output / UNFINISHED


def write(found: Audit, pictures: Pictures, output: Path, described: report.Report) -> None:
    """Write chimeras, page and ``report.json`` whole, in this order, and delete what was kept for going on."""
    import matplotlib.pyplot as plt

    plots = []
    for dark in (False, True):
        drawn = figure.margins(found, dark=dark)
        plots.append(png(drawn))
        plt.close(drawn)
    shown = described["conflicts"]["images"][: page.SHOWN] + described["margins"]["nearest"]
    shown += (described["made"] or {"images": []})["images"]
    thumbnails = {one["name"]: page.thumbnail(pictures.load(one["name"])) for one in shown}
    made: list[Any] = []
    for number, one in enumerate(found.made):
        made.append(None if one.image is None else page.thumbnail(one.image))
        if one.image is not None:
            (output / MADE).mkdir(exist_ok=True)
            write_whole(output / MADE / f"{number:03d}.png", png_bytes(one.image))
    text = page.page(described, thumbnails, made, (plots[0], plots[1]), figure.says(found))
    write_whole(output / PAGE, text.encode())
    write_whole(output / JSON, (json.dumps(described, indent=2) + "\n").encode())
    shutil.rmtree(output / UNFINISHED, ignore_errors=True)
