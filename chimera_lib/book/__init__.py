"""Build the book: executed notebooks and prose in, a site that needs neither kernel nor network out.

`site` runs the notebooks, calls jupyter-book and swaps the finished site into place; `stage` gathers what
jupyter-book reads; `quotes` puts measured numbers into prose; `figures` makes the table of figures.
"""

from chimera_lib.book.site import build

__all__ = ["build"]
