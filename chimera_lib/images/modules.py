"""A user's torch module, named by where the function that makes it stands."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from types import ModuleType

EXPECTED = "expected FILE.py:CALLABLE or PACKAGE.MODULE:CALLABLE, which returns a torch.nn.Module"


def module_from(spec: str) -> nn.Module:
    """The torch module that ``spec`` makes, in eval mode.

    ``spec`` is ``path/to/file.py:callable`` or ``package.module:callable``; the callable takes no arguments and returns
    a ``torch.nn.Module``, or is one. This runs the code that is named. Raises ChimeraError where the file, the module
    or the callable is missing, or where it raises or returns something else.
    """
    place, separator, name = spec.rpartition(":")
    if not (separator and place and name):
        raise ChimeraError(f"module {spec!r}: {EXPECTED}")
    made: Any = _imported(place)
    for part in name.split("."):
        if not hasattr(made, part):
            raise ChimeraError(f"module {spec!r}: {place} has no {name!r}; it has: {', '.join(_callables(made))}")
        made = getattr(made, part)
    if not isinstance(made, nn.Module):
        if not callable(made):
            raise ChimeraError(f"module {spec!r}: {name!r} is {type(made).__name__}; {EXPECTED}")
        try:
            made = made()
        except Exception as error:  # whatever the user's own code raised
            raise ChimeraError(f"module {spec!r}: {name}() raised {_line(error)}") from error
    if not isinstance(made, nn.Module):
        raise ChimeraError(f"module {spec!r}: {name}() returned {type(made).__name__}; {EXPECTED}")
    return made.eval()


def _imported(place: str) -> ModuleType:
    """The module in a file, or by its dotted name."""
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        path = Path(place).expanduser().resolve()
        if not path.is_file():
            raise ChimeraError(f"{place} is not a file; {EXPECTED}")
        unique = f"chimera_user_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
        found = importlib.util.spec_from_file_location(unique, path)
        if found is None or found.loader is None:
            raise ChimeraError(f"{place} cannot be imported; {EXPECTED}")
        module = importlib.util.module_from_spec(found)
        sys.modules[unique] = module  # dataclasses and their like look it up there
        found.loader.exec_module(module)
    except ChimeraError:
        raise
    except Exception as error:  # an import runs the user's code, which may raise anything
        raise ChimeraError(f"cannot import {place}: {_line(error)}") from error
    return module


def _callables(module: Any) -> list[str]:
    """What of a module's own could be named."""
    own = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    return [name for name in own if inspect.getmodule(getattr(module, name)) is module] or ["nothing callable"]


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
