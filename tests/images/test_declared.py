"""A backend in one file: what it declares, what is wrong with it, and that it runs, as CONTRIBUTING.md shows it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from chimera_lib import cli
from chimera_lib.errors import BackendUnavailable, ChimeraError
from chimera_lib.images.backends import declared, registry
from chimera_lib.images.backends.pool import Worker
from chimera_lib.images.oracle import Oracle

if TYPE_CHECKING:
    from chimera_lib.images.network import Network

PROJECT = Path(__file__).parents[2]
WHOLE = """
NAME = "mine"
LIBRARY = "numpy"
INSTALL = "pip install mine"

def start(network, options, executor):
    import numpy as np
    run = executor.Executor(*executor.read(network), lambda a, b, out: np.matmul(a, b, out=out))
    return run.predict, {"version": "1", "kernels": "none", "path": np.__file__}
"""


def example() -> str:
    """The one Python file that stands in "How to add a backend"."""
    section = (PROJECT / "CONTRIBUTING.md").read_text().partition("## How to add a backend")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return code


def test_the_file_that_contributing_shows_is_a_backend(
    tmp_path: Path,
    small_network: Network,
    pictures: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "einsum.py"
    path.write_text(example())
    assert len(example().splitlines()) < 60
    with pytest.raises(SystemExit) as end:
        cli.main(["images", "backends", "--file", str(path), "--model", "resnet20"])
    table = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert not end.value.code
    assert {"openblas", "einsum", "einsum:tensordot"} < set(table) and "not available" not in table["einsum"]
    monkeypatch.setenv(declared.VARIABLE, str(path))
    with Oracle(small_network, ("openblas", "einsum")) as oracle:
        verdict = oracle(pictures)
        assert oracle.info()["einsum"]["library"] == "numpy"
    np.testing.assert_allclose(verdict.logits[1], verdict.logits[0], atol=1e-4)
    assert not np.array_equal(verdict.logits[1], verdict.logits[0])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('NAME = "mine"', "", "declares no NAME; expected a line such as NAME ="),
        ('LIBRARY = "numpy"', "", "declares no LIBRARY"),
        ('INSTALL = "pip install mine"', 'INSTALL = ""', "declares no INSTALL"),
        ('"mine"', "3", "NAME is 3; expected a text"),
        ('"mine"', "name()", "line 2: not a literal"),
        ('"numpy"', '"numpy"\nENVIRONMENT = []', "ENVIRONMENT is \\[\\]; expected a dictionary"),
        ('"numpy"', '"numpy"\nVARIANTS = {"x": 1}', "expected suffix -> options"),
        ('"numpy"', '"numpy"\nFAMILY = "blas"', "FAMILY is 'blas'; expected gemm or framework"),
        ("def start", "def begin", "no function start"),
        ("def start(", "def start((", "line 6: no Python"),
        ('"mine"', '"openblas"', "the name openblas is taken"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    old: str, new: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(WHOLE.replace(old, new, 1))
    monkeypatch.setenv(declared.VARIABLE, str(path))
    with pytest.raises(ChimeraError, match=message) as caught:
        registry.known()
    assert "wrong.py" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_and_two_files_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(declared.VARIABLE, str(tmp_path / "none.py"))
    with pytest.raises(ChimeraError, match=r"none.py: No such file"):
        registry.known()
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text(WHOLE)
    monkeypatch.setenv(declared.VARIABLE, f"{tmp_path / 'one.py'}:{tmp_path / 'two.py'}")
    with pytest.raises(ChimeraError, match=r"two.py: the name mine is taken \(.*one.py\)"):
        registry.known()


def test_variants_carry_options_environment_and_interpreter(tmp_path: Path) -> None:
    path = tmp_path / "many.py"
    variants = {"": {}, "x": {"a": 1, "environment": {"B": "2"}}, "y": {"interpreter": "/usr/bin/python3"}}
    path.write_text(WHOLE + f"\nENVIRONMENT = {{'A': '1'}}\nVARIANTS = {variants}\n")
    plain, x, y = registry.from_file(path)
    assert [b.name for b in (plain, x, y)] == ["mine", "mine:x", "mine:y"]
    assert x.environment == {"A": "1", "B": "2"} and plain.environment == {"A": "1"}
    assert x.options == {"a": 1, "library": "numpy", "install": "pip install mine"}
    assert y.interpreter == Path("/usr/bin/python3") and y.needs_system and not x.needs_system


def test_what_cannot_be_imported_names_the_way_out(tmp_path: Path, small_network: Network) -> None:
    path = tmp_path / "missing.py"
    path.write_text(WHOLE.replace("import numpy as np", "import no_such_library"))
    with pytest.raises(BackendUnavailable, match=r"mine: not installed: pip install mine \(.*no_such_library"):
        Worker(registry.from_file(path)[0], small_network).start()


def test_a_file_is_read_without_being_run(tmp_path: Path) -> None:
    path = tmp_path / "loud.py"
    path.write_text(WHOLE + "\nraise SystemExit('run')\n")
    assert declared.read(path).name == "mine"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["torch-cuda", "torch-cuda:tf32", "cublas", "cublas:tf32"])
def test_cards_of_nvidia(name: str, small_network: Network, pictures: np.ndarray) -> None:
    check_device(name, small_network, pictures, 1e-1 if "tf32" in name else 1e-3)
    with Worker(name, small_network) as worker:
        assert worker.info()["card"] == torch.cuda.get_device_name()


@pytest.mark.skipif(not torch.backends.mps.is_available(), reason="no MPS device")
@pytest.mark.parametrize("name", ["torch-mps", "accelerate"])
def test_macs(name: str, small_network: Network, pictures: np.ndarray) -> None:
    check_device(name, small_network, pictures, 1e-3)


@pytest.mark.parametrize("name", ["torch-cuda", "cublas"])
def test_the_path_of_a_card_on_the_cpu(name: str, small_network: Network, pictures: np.ndarray) -> None:
    plain = registry.get(name)
    options = {**plain.options, "device": "cpu"}
    on_cpu = registry.Backend("on-cpu", "torch", plain.runner, options=options)
    check_device(on_cpu, small_network, pictures, 1e-4)


def check_device(backend: str | registry.Backend, network: Network, images: np.ndarray, tolerance: float) -> None:
    """The same bits in two processes, near the reference's."""
    answers = []
    for _ in range(2):
        with Worker(backend, network) as worker:
            answers.append(worker.predict(images))
    np.testing.assert_array_equal(*answers)
    with Worker("reference-float64", network) as worker:
        exact = worker.predict(images)
    np.testing.assert_allclose(answers[0], exact, rtol=0, atol=tolerance * np.abs(exact).max())


@pytest.mark.parametrize(
    ("name", "reason"),
    [("torch-cuda", "no CUDA device: "), ("cublas:tf32", "no CUDA device: "), ("torch-mps", "no MPS device: ")],
)
def test_an_absent_device_says_so(name: str, reason: str, small_network: Network) -> None:
    if (torch.backends.mps if "mps" in name else torch.cuda).is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(BackendUnavailable, match=f"{name}: {reason}"):
        Worker(name, small_network).start()


def test_the_order_is_the_same_through_other_machine_code(small_network: Network, pictures: np.ndarray) -> None:
    with Oracle(small_network, ("fixed-order", "fixed-order:sse")) as oracle:
        logits = oracle(pictures).logits
    np.testing.assert_array_equal(logits[0], logits[1])
