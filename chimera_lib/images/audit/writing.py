"""Put an audit's report into its folder, last of all, so that a report that is there belongs to a finished audit."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

from chimera_lib.errors import ChimeraError
from chimera_lib.images.audit import figure, page, report
from chimera_lib.images.campaign import write_whole
from chimera_lib.images.png import png_bytes
from chimera_lib.plotting import png

if TYPE_CHECKING:
    from pathlib import Path

    from chimera_lib.images.audit.reading import Pictures
    from chimera_lib.images.audit.result import Audit

JSON, PAGE, MADE, UNFINISHED = "report.json", "report.html", "made", ".chimera-audit"


def begin(output: Path) -> Path:
    """Take an earlier report out of ``output``, with the files that it names; what else lies there is left alone.

    Returns the folder where answers are kept until the end. Raises ChimeraError where a file bears the report's name
    and is none.
    """
    output.mkdir(parents=True, exist_ok=True)
    for one in earlier(output):
        (output / one).unlink(missing_ok=True)
    return output / UNFINISHED


def earlier(output: Path) -> list[str]:
    """The files of the report that lies in ``output``, the list of them last; none where there is no report."""
    try:
        report = json.loads((output / JSON).read_bytes())
        made = [one["file"] for one in (report["made"] or {"images": []})["images"] if one["file"]]
        verdict = report["verdict"]
    except FileNotFoundError:
        if (output / UNFINISHED).is_dir():
            return [PAGE]  # killed between page and report
        if (output / PAGE).exists():
            raise ChimeraError(f"{output / PAGE} is in the way; move it or name another --output") from None
        return []
    except (ValueError, LookupError, TypeError) as error:
        raise ChimeraError(f"{output / JSON} is no audit's report; move it or name another --output") from error
    ours = re.compile(rf"{MADE}/[0-9]{{3,}}\.png")
    return [*(str(name) for name in made if verdict and ours.fullmatch(str(name))), PAGE, JSON]


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
