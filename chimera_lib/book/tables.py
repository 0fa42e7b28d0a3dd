"""Tables of measured numbers in prose, one metric a cell.

A block in a page such as

    ```{metrics-table}
    source: recorded/images-strategies
    rows: {random noise: random_noise, lattice: lattice}
    columns: {found: rate|.1%, largest change: linf*|.0f}
    ```

becomes a table whose cells quote the metrics `random_noise_rate`, `random_noise_linf` and so on, each with its
interval. Where nobody has made the recording yet, the page says so. A column with an asterisk stays empty in rows
that have no such metric, as a search that found nothing has no largest change.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from chimera_lib.book.quotes import quote
from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from chimera_lib.book.quotes import Metrics

_BLOCK = re.compile(r"^```\{metrics-table\}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FIELDS = {"source", "rows", "columns"}


def expand(text: str, metrics: Metrics, where: str) -> str:
    """Put tables in place of the blocks in a page's text.

    Args:
        text: Markdown.
        metrics: Where to look metrics up.
        where: Name of the page, for errors.

    Raises:
        ChimeraError: A block that is not as above, or that names what was not measured; names the page.
    """

    def table(match: re.Match[str]) -> str:
        """Give the Markdown table that a block stands for."""
        block = _parse(match[1], where)
        source = block["source"]
        if metrics.missing(f"{source}:"):
            return f"*Not measured yet: no `{source}.json` in `book/`.*"
        lines = [" | ".join(["", "", *block["columns"], ""]).strip(), "|---" * (len(block["columns"]) + 1) + "|"]
        columns = block["columns"].values()
        for label, row in block["rows"].items():
            cells = [_cell(source, row, column, metrics, where) for column in columns]
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
        for label, column in block["columns"].items():
            if not any(_cell(source, row, column, metrics, where) for row in block["rows"].values()):
                raise ChimeraError(f"{where}: {source}: no row has the column {label}, metrics named ROW_{column}")
        return "\n".join(lines)

    return _BLOCK.sub(table, text)


def _parse(block: str, where: str) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(block)
    except yaml.YAMLError as error:
        raise ChimeraError(f"{where}: a metrics-table is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or set(content) != _FIELDS:
        raise ChimeraError(f"{where}: a metrics-table needs exactly {', '.join(sorted(_FIELDS))}")
    if not all(isinstance(content[field], dict) and content[field] for field in ("rows", "columns")):
        raise ChimeraError(f"{where}: rows and columns of a metrics-table map what is shown to names of metrics")
    return content


def _cell(source: str, row: str, column: str, metrics: Metrics, where: str) -> str:
    quantity, _, spec = column.partition("|")
    name = f"{source}:{row}_{quantity.removesuffix('*')}"
    if quantity.endswith("*") and not metrics.has(name):
        return ""
    try:
        measured = metrics.get(name)
        interval = f" ({quote(measured, '.ci', spec)})" if measured.ci is not None else ""
        return f"{quote(measured, '', spec)}{interval}"
    except (ChimeraError, ValueError) as error:
        raise ChimeraError(f"{where}: {name}: {error}") from error
