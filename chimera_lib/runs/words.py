"""The words of a command with places for values: ``--seed {seed} --output-dir {output}``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

OUTPUT = "output"
"""The name that stands for the run's own folder."""

_PLACE = re.compile(r"\{([A-Za-z_]\w*)\}")


def places(words: Iterable[str]) -> set[str]:
    """The names that stand in braces."""
    return {name for word in words for name in _PLACE.findall(word)}


def fill(words: Iterable[str], values: Mapping[str, Any]) -> list[str]:
    """The words with values in their places; other braces stay as they are.

    A word that is nothing but the place of a list becomes as many words as the list has.
    """
    filled: list[str] = []
    for word in words:
        alone = _PLACE.fullmatch(word)
        value = values.get(alone[1]) if alone else None
        if isinstance(value, (list, tuple)):
            filled += [text(one) for one in value]
        else:
            filled.append(_PLACE.sub(lambda place: text(values[place[1]]) if place[1] in values else place[0], word))
    return filled


def text(value: Any) -> str:
    """A value as a word: truth values as YAML writes them, lists with blanks between."""
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(text, value)) if isinstance(value, (list, tuple)) else str(value)


def shown(values: Mapping[str, Any]) -> Sequence[str]:
    """Names and values for a reader: ``model=70m seed=1``."""
    return [f"{name}={text(value)}" for name, value in values.items()]
