"""One look for every figure, and the few things that a notebook does with one: show it, tabulate, tile pictures.

Figures are drawn dark on white in both themes of the book; the site sets them on a white card in the dark one.
"""

from __future__ import annotations

import csv
import html
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from matplotlib.figure import Figure

DPI = 150

# Okabe and Ito's colours, which people with any of the common colour blindnesses can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")

_STYLE: dict[str, Any] = {
    "figure.figsize": (7.0, 4.0),
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.labelsize": 10,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "errorbar.capsize": 3,
    "lines.linewidth": 1.8,
    "font.family": "DejaVu Sans",  # ships with matplotlib, so that a figure looks the same everywhere
    "image.interpolation": "nearest",
}


def style() -> None:
    """Set matplotlib to the book's style; call it once, in a notebook's first cell."""
    import matplotlib as mpl
    from cycler import cycler

    settings: dict[Any, Any] = _STYLE | {"axes.prop_cycle": cycler(color=list(COLOURS))}
    mpl.rcParams.update(settings)


def png(figure: Figure, *, dpi: int = DPI) -> bytes:
    """Render a figure to the bytes of a PNG file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    # Left in, the writer's name and version would change the bytes with every release of matplotlib.
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def show(figure: Figure, name: str) -> None:
    """Display a figure, save it as `<name>.png` in the run's folder (150 dpi), and close it.

    Outside of a run nothing is saved. Caption and alt text are static, in the cell's metadata:
    `{"mystnb": {"figure": {"caption": "...", "name": "fig-..."}, "image": {"alt": "..."}}}`.

    Args:
        figure: Any matplotlib figure.
        name: File name without its ending: letters, digits, `-` and `_`.

    Raises:
        ChimeraError: The name would not make a plain file name.
    """
    import matplotlib.pyplot as plt
    from IPython.display import Image, display

    content = png(figure)
    _save(f"{_plain(name)}.png", content)
    plt.close(figure)  # else the inline backend would show it a second time at the end of the cell
    display(Image(data=content, format="png"))


def table(
    rows: Sequence[Mapping[str, Any]],
    name: str,
    *,
    caption: str = "",
    formats: Mapping[str, str] | None = None,
) -> None:
    """Display rows as a small table and save them, unrounded, as `<name>.csv` in the run's folder.

    Args:
        rows: One mapping per row; the columns are the keys of the first, and every row has the same.
        name: File name without its ending: letters, digits, `-` and `_`.
        caption: A sentence above the table, plain text.
        formats: Format per column for display, such as `{"rate": ".1%"}`; floats are else shown as `.4g`.

    Raises:
        ChimeraError: No rows, rows of different columns, a format for no column, or a bad name.
    """
    from IPython.display import HTML, display

    if not rows:
        raise ChimeraError(f"table {name!r} has no rows: give it at least one")
    columns = list(rows[0])
    for row in rows:
        if list(row) != columns:
            raise ChimeraError(f"table {name!r} has a row with columns {list(row)}: expected {columns}")
    if strange := set(formats or {}) - set(columns):
        raise ChimeraError(f"table {name!r} has no column {sorted(strange)} to format: its columns are {columns}")
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    _save(f"{_plain(name)}.csv", buffer.getvalue().encode())
    display(HTML(_table_html(rows, columns, caption, formats or {}, label=caption or name.replace("-", " "))))


def _table_html(
    rows: Sequence[Mapping[str, Any]], columns: list[str], caption: str, formats: Mapping[str, str], label: str
) -> str:
    numeric = {c for c in columns if any(_is_number(row[c]) for row in rows)}
    # It takes the focus, so that the keyboard can scroll it; what takes the focus needs a role and a name.
    role = f'role="region" aria-label="{html.escape(label)}"'
    lines = [f'<div class="chimera-table" style="overflow-x:auto" tabindex="0" {role}><table class="table">']
    if caption:
        lines.append(f"<caption>{html.escape(caption)}</caption>")
    align = {c: ' style="text-align:right"' if c in numeric else ' style="text-align:left"' for c in columns}
    lines.append(
        "<thead><tr>" + "".join(f"<th{align[c]}>{html.escape(str(c))}</th>" for c in columns) + "</tr></thead><tbody>"
    )
    for row in rows:
        cells = (f"<td{align[c]}>{html.escape(_cell(row[c], formats.get(c)))}</td>" for c in columns)
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return "\n".join([*lines, "</tbody></table></div>"])


def _is_number(value: object) -> bool:
    import numpy as np

    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _cell(value: object, spec: str | None) -> str:
    """Say one value in a table: nothing for None, yes or no for a truth value, `.4g` for a float."""
    import numpy as np

    if value is None:
        return ""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if spec and _is_number(value):
        return format(value, spec)
    if isinstance(value, (float, np.floating)):
        return format(float(value), ".4g")
    return str(value)


def pictures(
    images: np.ndarray | Sequence[np.ndarray],
    titles: Sequence[str] | None = None,
    *,
    columns: int = 5,
    size: float = 1.4,
    cmap: str = "gray",
) -> Figure:
    """Tile pictures into one figure, pixels left square and unsmoothed.

    Args:
        images: uint8 (N, H, W, 3) or (N, H, W), or float in [0, 1] of these shapes.
        titles: N short lines, one above each picture.
        columns: Pictures in a row.
        size: Width of one picture in inches.
        cmap: Colour map of pictures that have no colours of their own.

    Raises:
        ChimeraError: No pictures, or as many titles as there are not pictures.
    """
    import matplotlib.pyplot as plt

    if not len(images) or (titles is not None and len(titles) != len(images)):
        raise ChimeraError(f"{len(images)} pictures with {len(titles or [])} titles: expected one title for each")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    extra = 0.16 * max((t.count("\n") + 1 for t in titles), default=0) if titles else 0.0
    figure, axes = plt.subplots(rows, columns, figsize=(size * columns, (size + extra) * rows), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
        axis.set_anchor("S")  # what room is left over belongs to the titles
    for index, image in enumerate(images):
        axis = axes.flat[index]
        axis.imshow(image, cmap=cmap)
        if titles is not None:
            axis.set_title(titles[index], fontsize=8, fontweight="normal")
    return figure


def _plain(name: str) -> str:
    if not name or not name.replace("-", "").replace("_", "").isalnum():
        raise ChimeraError(f"{name!r} makes no plain file name: use letters, digits, '-' and '_'")
    return name


def _save(filename: str, content: bytes) -> None:
    folder = os.environ.get("CHIMERA_RUN_DIR")
    if folder:
        (Path(folder) / filename).write_bytes(content)
