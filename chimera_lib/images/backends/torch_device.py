"""Runner of PyTorch on a graphics card: the whole network on CUDA (cuBLAS, cuDNN) or on Apple's MPS.

Self-contained but for ``frameworks``, its neighbour, whose form of the network it shares. What may change the bits
from run to run is off: cuDNN's search for the fastest algorithm, algorithms that add in no fixed order, and TF32
(products of factors rounded to 10 bits of mantissa) unless it is asked for.
"""

from __future__ import annotations

import importlib.util
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


class Unavailable(Exception):  # noqa: N818
    """There is no such device here; the message says what PyTorch sees instead."""


def neighbour(name: str) -> Any:
    """Import another file of this folder by path: the worker knows nothing of the package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def driver() -> str:
    """The version of NVIDIA's driver, as its own tool says; empty where that cannot be asked."""
    question = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(question, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.splitlines()[0].strip() if answer else ""


def cuda_facts(torch: Any, tf32: bool) -> dict[str, str]:
    """Card, driver and library versions, with the settings made; raises Unavailable where there is no card."""
    if not torch.cuda.is_available():
        built = "PyTorch sees none" if torch.version.cuda else f"this PyTorch ({torch.__version__}) is for CPUs only"
        raise Unavailable(f"no CUDA device: {built}")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    card = torch.cuda.get_device_name()
    return {
        "card": card,
        "driver": driver(),
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
        "kernels": f"{'TF32' if tf32 else 'float32'} on {card}",
    }


def mps_facts(torch: Any, _: bool) -> dict[str, str]:
    """Apple's chip and system; raises Unavailable elsewhere."""
    if not torch.backends.mps.is_available():
        raise Unavailable(f"no MPS device: PyTorch sees none on {platform.system()} {platform.machine()}")
    return {"card": platform.processor(), "driver": f"macOS {platform.mac_ver()[0]}", "kernels": "Metal"}


def cpu_facts(torch: Any, _: bool) -> dict[str, str]:
    """The same path on the CPU, for tests without a card."""
    return {"kernels": f"{torch.backends.cpu.get_cpu_capability()}, the path of a card"}


FACTS = {"cuda": cuda_facts, "mps": mps_facts, "cpu": cpu_facts}


def start(network: str, options: dict[str, Any], executor: Any) -> tuple[Any, dict[str, Any]]:
    """The network on ``options["device"]``, with ``tf32`` or without; raises Unavailable."""
    frameworks = neighbour("frameworks")
    torch = frameworks.need("torch", options)
    torch.set_num_threads(1)
    facts = FACTS[options["device"]](torch, options.get("tf32", False))
    program, plain = executor.read(network)
    device = torch.device(options["device"])
    layers = frameworks.torch_layers(torch, program, {k: torch.from_numpy(v).to(device) for k, v in plain.items()})

    def predict(image: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return layers(torch.from_numpy(executor.pixels(image)[None]).to(device)).cpu().numpy()

    return predict, {"version": torch.__version__, "path": torch.__file__, **facts}
