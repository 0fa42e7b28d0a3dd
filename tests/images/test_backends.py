"""The backends: real libraries, each what it claims to be, sorted by the bits that they give."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from chimera_lib.errors import BackendUnavailable, UnknownName
from chimera_lib.images import executor
from chimera_lib.images.backends import environment, equivalence, registry
from chimera_lib.images.backends.pool import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from chimera_lib.images.backends.registry import Backend
    from chimera_lib.images.network import Network

LIBRARIES = ["openblas", "numpy-openblas", "blis", "mkl", "torch", "onnxruntime", "openvino", "jax", "ncnn", "mnn"]
OWN = ["reference-float64", "fixed-order"]  # in numpy alone
WIDE = ["openblas:float64", "blis:float64", "mkl:float64", "openblas:all-float64", "blis:all-float64"]
SWAPPED = ["pytorch-openblas", "pytorch-blis", "pytorch-atlas", "pytorch-netlib"]
DEBIAN = ["debian-openblas", "debian-blis", "debian-atlas", "debian-netlib"]
X86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="forces kernel sets of x86-64 processors")


def reference(network: Network, images: np.ndarray) -> np.ndarray:
    """Logits by the executor on numpy's float64-accumulating product: closer to exact than any backend."""

    def product(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        out[:] = a.astype(np.float64) @ b.astype(np.float64)

    run = executor.Executor(network.program, network.arrays, product)
    return np.stack([run.predict(image) for image in images])


def check_backend(name: str, network: Network, images: np.ndarray) -> dict[str, str]:
    """Run a backend in two processes: right numbers, the same bits, and the file that it says is the one mapped."""
    answers = []
    for _ in range(2):
        with Worker(name, network) as worker:
            answers.append(worker.predict(images))
            facts = worker.info()
            assert worker.process is not None
            maps = Path(f"/proc/{worker.process.pid}/maps")
            if maps.exists():
                assert facts["path"] in maps.read_text()
    np.testing.assert_array_equal(*answers)
    exact = reference(network, images)
    assert answers[0].dtype == np.float32 and answers[0].shape == exact.shape
    np.testing.assert_allclose(answers[0], exact, rtol=0, atol=1e-5 * np.abs(exact).max())
    assert facts["library"] and facts["version"][0].isdigit() and facts["kernels"]
    return facts


@pytest.mark.parametrize("name", [*LIBRARIES, *OWN, *WIDE])
def test_pip_backends_are_real(name: str, small_network: Network, pictures: np.ndarray) -> None:
    facts = check_backend(name, small_network, pictures)
    assert name in OWN or facts["library"] in facts["path"].replace("cy.", "blis")


@pytest.mark.parametrize("name", DEBIAN)
def test_debian_backends_are_real(name: str, small_network: Network, pictures: np.ndarray) -> None:
    if not Path(registry.get(name).options["path"]).exists():
        pytest.skip("Debian's BLAS packages are not installed")
    check_backend(name, small_network, pictures)


@pytest.mark.parametrize("name", SWAPPED)
def test_pytorch_runs_on_the_swapped_blas(name: str, small_network: Network, pictures: np.ndarray) -> None:
    backend = registry.get(name + ":nomkldnn")
    if not (Path(backend.options["blas"]).exists() and Path("/usr/lib/python3/dist-packages/torch").exists()):
        pytest.skip("Debian's PyTorch or the BLAS below it is not installed")
    facts = check_backend(backend.name, small_network, pictures)
    assert facts["path"].startswith(backend.options["blas"])


def test_another_blas_below_pytorch_is_refused(small_network: Network) -> None:
    if not Path("/usr/lib/python3/dist-packages/torch").exists():
        pytest.skip("Debian's PyTorch or the BLAS below it is not installed")
    backend = registry.get("pytorch-blis")
    wrong = registry.framework("wrong", {}, backend.interpreter, **{**backend.options, "blas": "/usr/lib/nowhere/"})
    with pytest.raises(BackendUnavailable, match="asked for the BLAS in /usr/lib/nowhere/, this PyTorch runs on /usr"):
        Worker(wrong, small_network).start()


@X86
def test_kernel_sets_are_confirmed_by_the_library(small_network: Network, pictures: np.ndarray) -> None:
    facts = check_backend("openblas:Nehalem", small_network, pictures)
    assert facts["kernels"] == "Nehalem"
    assert check_backend("mkl:COMPATIBLE", small_network, pictures)["kernels"] == "COMPATIBLE"
    assert check_backend("torch:SSE41", small_network, pictures)["kernels"] == "SSE41"


@X86
def test_a_kernel_set_that_is_silently_another_is_refused(small_network: Network) -> None:
    silent = registry.Backend(
        "silent",
        "openblas",
        environment={"OPENBLAS_CORETYPE": "Nehalem"},
        options={**registry.OPENBLAS, "kernels": ["Sandybridge"]},
    )
    with pytest.raises(BackendUnavailable, match="asked for kernels Sandybridge, the library runs Nehalem"):
        Worker(silent, small_network).start()


@X86
def test_the_users_shell_does_not_steer(
    small_network: Network, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Worker("openblas:Nehalem", small_network) as worker:
        other = worker.predict(pictures)
    with Worker("openblas", small_network) as worker:
        usual, kernels = worker.predict(pictures), worker.info()["kernels"]
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with Worker("openblas", small_network) as worker:
        assert worker.info()["kernels"] == kernels
        np.testing.assert_array_equal(worker.predict(pictures), usual)
    assert kernels == "Nehalem" or not np.array_equal(other, usual)
    assert environment.of(registry.get("openblas"))["OMP_NUM_THREADS"] == "1"


def test_names_are_unique_and_an_unknown_one_is_refused() -> None:
    names = [backend.name for backend in registry.known()]
    assert len(set(names)) == len(names) > 30
    with pytest.raises(UnknownName, match=r"unknown backend 'mlk'.*did you mean 'mkl'"):
        registry.get("mlk")


@pytest.mark.parametrize("name", ["openblas", "mkl", "blis"])
def test_a_missing_library_names_the_way_out(name: str, small_network: Network) -> None:
    options = {**registry.get(name).options, "distribution": "no-such-package"}
    with pytest.raises(BackendUnavailable, match=r"missing: not installed: pip install chimera-lib\[backends\]"):
        Worker(registry.Backend("missing", name, options=options), small_network).start()


@pytest.mark.parametrize("name", ["torch", "onnxruntime", "openvino", "jax"])
def test_a_missing_framework_names_the_way_out(
    name: str, small_network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sitecustomize that hides the framework stands for an environment without it."""
    hide = """
import sys
class Hide:
    def find_spec(self, name, *_):
        if name == {0!r}:
            raise ModuleNotFoundError(name, name={0!r})
sys.meta_path.insert(0, Hide())
"""
    (tmp_path / "sitecustomize.py").write_text(hide.format(name))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(BackendUnavailable, match=r"not installed: pip install chimera-lib\[backends\]"):
        Worker(name, small_network).start()


def test_survey_sorts_by_bits(small_network: Network, scripted: Callable[..., Backend]) -> None:
    """Two names for one library are one class; another library is another; one unit in the last place is another."""
    nudge = "return np.nextafter(self.run.predict(image), np.float32(np.inf))"
    backends = [
        "openblas",
        registry.Backend("again", "openblas", options=registry.OPENBLAS),
        "blis",
        scripted("plain"),
        scripted("nudged", predict=nudge),
        registry.Backend("absent", "atlas", options={**registry.DEBIAN_ATLAS, "path": "/no/lib.so"}),
        scripted("crashing", predict="os.kill(os.getpid(), signal.SIGILL)"),
    ]
    table = {row.name: row for row in equivalence.survey(small_network, backends)}
    assert table["openblas"].bit_class == table["again"].bit_class == 1
    assert table["openblas"].difference == 0.0 and table["blis"].difference > 0
    assert len({table[name].bit_class for name in ("openblas", "blis", "nudged")}) == 3
    assert table["plain"].bit_class != table["nudged"].bit_class
    assert table["absent"].reason == "not installed: apt-get install libatlas3-base"
    assert "SIGILL" in table["crashing"].reason
    assert [table[n].available for n in ("absent", "crashing", "blis")] == [False, False, True]
    assert all(row.milliseconds > 0 for row in table.values() if row.available)


def test_printed_table(small_network: Network, scripted: Callable[..., Backend]) -> None:
    lines: list[str] = []
    bad = scripted("bad", start="os.kill(os.getpid(), signal.SIGILL)")
    equivalence.print_backends(small_network, ["openblas", "blis", bad], report=lines.append)
    assert [line.split()[0] for line in lines] == ["backend", "openblas", "blis", "bad", "2", "class:"]
    assert "not available: its worker was killed by SIGILL" in lines[3]
    assert lines[4] == "2 of 3 backends available: 2 libraries, 2 bit classes"


def test_probes_are_seeded_pictures() -> None:
    first = equivalence.probes((3, 20, 24), 4)
    assert first.shape == (4, 20, 24, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, equivalence.probes((3, 20, 24), 4))
    assert not np.array_equal(first, equivalence.probes((3, 20, 24), 4, seed=1))
    across, far = (
        np.abs(np.diff(first.astype(int), axis=2)).mean(),
        np.abs(first.astype(int) - first[:, :, ::-1]).mean(),
    )
    assert across < far / 2, "neighbours resemble each other, as in a photograph"


@pytest.mark.slow
@X86
def test_five_libraries_and_eight_classes_without_root(tmp_path: Path) -> None:
    """What pip alone installs, on a CIFARVGG of 32 filters."""
    import torch

    from chimera_lib.images import models
    from chimera_lib.images.network import from_torch

    torch.manual_seed(0)
    network = from_torch(models.CIFARVGG(filters=32).eval())
    names = [f"openblas:{core}" for core in registry.OPENBLAS_CORES]
    names += ["blis", "mkl", "mkl:COMPATIBLE", "torch", "torch:nomkldnn", "onnxruntime", "openvino", "jax"]
    table = [row for row in equivalence.survey(network, names) if row.available]
    assert len({row.library for row in table}) >= 5
    assert len({row.bit_class for row in table}) >= 10
    noise = max(row.difference for row in table)
    assert 0 < noise < 1e-4
