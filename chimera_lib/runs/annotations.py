"""Does a value fit the annotation written beside a parameter? Annotations are read as syntax, never evaluated."""

from __future__ import annotations

import ast
from typing import Any

SCALARS: dict[str, type] = {"int": int, "float": float, "bool": bool, "str": str}
MISSING = object()
"""Stands for "no value", where ``None`` is a value."""

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def literal(node: ast.expr | None) -> Any:
    """The value of a literal expression, or `MISSING` where it is none."""
    try:
        return MISSING if node is None else ast.literal_eval(node)
    except ValueError:
        return MISSING


def read(annotation: str | None) -> ast.expr | None:
    """The syntax tree of an annotation; ``None`` where there is none or it cannot be read, which fits anything."""
    try:
        return None if annotation is None else ast.parse(annotation, mode="eval").body
    except SyntaxError:
        return None


def read_typed(raw: str, kind: ast.expr | None) -> Any:
    """Text from a command line as the annotated type: scalars as Python reads them, anything else as YAML.

    YAML alone would read ``1e-3`` as text, ``012`` as ten and ``on`` as true. Returns `MISSING` where YAML fails.
    """
    import yaml

    options = _alternatives(kind)
    if raw in ("null", "None") and any(_is_none(option) for option in options):
        return None
    for option in options:
        if isinstance(option, ast.Name) and option.id in SCALARS:
            try:
                return _WORDS[raw.lower()] if option.id == "bool" else SCALARS[option.id](raw)
            except (KeyError, ValueError):
                continue
    try:
        return yaml.safe_load(raw)
    except yaml.YAMLError:
        return MISSING


def fit(value: Any, kind: ast.expr | None) -> tuple[bool, Any]:
    """Whether ``value`` is of the annotated type, and the value as that type (whole numbers become floats)."""
    options = _alternatives(kind)
    if len(options) > 1:
        fits = [fit(value, option) for option in options]
        exact = [one for one in fits if one[0] and type(one[1]) is type(value)]
        return next(iter(exact + [one for one in fits if one[0]]), (False, value))
    if _is_none(kind):
        return value is None, value
    if isinstance(kind, ast.Name) and kind.id in SCALARS:
        return _fit_scalar(value, SCALARS[kind.id])
    outer = kind.value if isinstance(kind, ast.Subscript) else kind
    inner = kind.slice if isinstance(kind, ast.Subscript) else None
    name = outer.id if isinstance(outer, ast.Name) else None
    if name == "Literal" and inner is not None:
        allowed = literal(inner)
        return value in (allowed if isinstance(allowed, tuple) else (allowed,)), value
    if name in ("list", "tuple"):
        return _fit_items(value, inner)
    if name == "dict":
        return isinstance(value, dict), value
    return True, value


def plain(value: Any) -> bool:
    """Whether papermill can write a value into a notebook and JSON into a file: no dates, no keys but text."""
    if isinstance(value, (list, tuple)):
        return all(plain(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(item) for key, item in value.items())
    return value is None or type(value) in SCALARS.values()


def _fit_scalar(value: Any, wanted: type) -> tuple[bool, Any]:
    if wanted is float and not isinstance(value, (bool, float)) and isinstance(value, (int, str)):
        try:
            return True, float(value)  # a YAML file gives 1e-3 as text
        except ValueError:
            return False, value
    return type(value) is wanted, value


def _fit_items(value: Any, inner: ast.expr | None) -> tuple[bool, Any]:
    if not isinstance(value, (list, tuple)):
        return False, value
    kinds: list[ast.expr | None] = list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]
    endless = len(kinds) == 2 and isinstance(kinds[1], ast.Constant) and kinds[1].value is Ellipsis
    if endless or not isinstance(inner, ast.Tuple):
        kinds = [kinds[0]] * len(value)
    if len(kinds) != len(value):
        return False, value
    fits = [fit(item, kind) for item, kind in zip(value, kinds, strict=True)]
    return all(ok for ok, _ in fits), [item for _, item in fits]


def _is_none(kind: ast.expr | None) -> bool:
    return isinstance(kind, ast.Constant) and kind.value is None


def _alternatives(kind: ast.expr | None) -> list[ast.expr | None]:
    """The members of a union, one by one."""
    if isinstance(kind, ast.BinOp) and isinstance(kind.op, ast.BitOr):
        return _alternatives(kind.left) + _alternatives(kind.right)
    if isinstance(kind, ast.Subscript) and isinstance(kind.value, ast.Name) and kind.value.id == "Optional":
        return [*_alternatives(kind.slice), ast.Constant(None)]
    return [kind]
