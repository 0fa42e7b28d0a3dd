"""A user's module by name: found, made, and every mistake said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from torch import nn

from chimera_lib.errors import ChimeraError
from chimera_lib.images.modules import module_from

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """
from __future__ import annotations
from dataclasses import dataclass
from torch import nn

@dataclass
class Settings:
    width: int = 4

def make():
    return nn.Sequential(nn.Conv2d(3, Settings().width, 3), nn.Dropout())

class Factory:
    made = make()

ready = make()
number = 3

def wrong():
    return "a string"

def broken():
    raise RuntimeError("no weights\\nhere")

def wants(argument):
    return make()
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "user code.py"
    path.write_text(SOURCE)
    return path


@pytest.mark.parametrize("name", ["make", "ready", "Factory.made"])
def test_modules_of_a_file(file: Path, name: str) -> None:
    module = module_from(f"{file}:{name}")
    assert isinstance(module, nn.Sequential) and module[0].out_channels == 4
    assert not any(part.training for part in module.modules())


def test_module_of_a_package() -> None:
    module = module_from("chimera_lib.images.models:ResNet20")
    assert type(module).__name__ == "ResNet20" and not module.training


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "has no 'absent'; it has: Settings, make, Factory, wrong, broken, wants"),
        ("number", "'number' is int; expected FILE.py:CALLABLE"),
        ("wrong", r"wrong\(\) returned str; expected FILE.py:CALLABLE"),
        ("broken", r"broken\(\) raised RuntimeError: no weights here"),
        ("wants", r"wants\(\) raised TypeError: .*argument"),
    ],
)
def test_what_is_wrong_with_the_callable(file: Path, name: str, message: str) -> None:
    with pytest.raises(ChimeraError, match=message) as caught:
        module_from(f"{file}:{name}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing", r"module 'nothing': expected FILE\.py:CALLABLE"),
        (":make", r"expected FILE\.py:CALLABLE"),
        ("absent.py:make", r"absent\.py is not a file"),
        ("no_such_package.nets:make", "cannot import no_such_package.nets: ModuleNotFoundError"),
    ],
)
def test_what_is_wrong_with_the_place(spec: str, message: str) -> None:
    with pytest.raises(ChimeraError, match=message):
        module_from(spec)


def test_a_file_that_does_not_import(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import torch\nraise OSError('disk')")
    with pytest.raises(ChimeraError, match=r"cannot import .*bad\.py: OSError: disk"):
        module_from(f"{tmp_path / 'bad.py'}:make")
