"""Execute notebooks, keep their runs, and read back what they measured.

In a notebook: ``from chimera_lib.runs import record, run_dir, measured``. Everything else is imported from the
modules themselves (`engine.run_cells`, `store.Store`), so that a kernel pays only for what it uses.
"""

from chimera_lib.runs.record import measured, record, run_dir

__all__ = ["measured", "record", "run_dir"]
