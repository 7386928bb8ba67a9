"""The device that an encoder, on torch, and spaCy's task models, on cupy, work on."""

import os
import re
import warnings

import torch
from thinc.api import require_cpu, require_gpu, use_pytorch_for_gpu_memory
from thinc.compat import has_cupy_gpu

from trfnb.runs.ledger import DEVICE, DEVICES
from trfnb.runs.results import TOLD, ipython_shell, record


def use_device(device: str | None = None) -> str:
    """Choose the device for all that is made or loaded from here on.

    In a notebook this holds for all later cells too: Thinc keeps its device in a context variable,
    which may end with the cell that set it, so it is set again before each.

    Args:
        device: ``"auto"``, a GPU where torch and cupy both see one, else the CPU; ``"cpu"``; or
            ``"cuda"`` with or without a number, as in ``"cuda:1"``. Left out: what the
            environment variable ``TRFNB_DEVICE`` says, else ``"auto"``.

    Returns:
        The GPU's name, or ``"cpu"``. The column ``device`` of a run's results has the name of the
        GPU or the processor that the last call chose.

    Raises:
        ValueError: there is no such device; the message says what is missing.
    """
    device = device or os.environ.get(DEVICE) or "auto"
    found = re.fullmatch(DEVICES, device)
    if not found:
        raise ValueError(f"device: expected auto, cpu, cuda or cuda:1 and so on, got {device!r}.")
    missing, number = missing_for_gpu(), int(found.group(1) or 0)
    if not missing and number >= torch.cuda.device_count():
        missing = f"there are {torch.cuda.device_count()} GPUs, numbered from 0"
    if missing and device.startswith("cuda"):
        raise ValueError(f"device {device!r}: {missing}. See the page Install for a GPU.")
    if torch.cuda.is_available() and missing and device == "auto":
        warnings.warn(f"On the CPU, though torch sees a GPU: {missing}.", stacklevel=2)
    on_gpu = device != "cpu" and not missing
    _chosen[:] = [number] if on_gpu else []
    use_device_again()
    if shell := ipython_shell():
        shell.events.register("pre_run_cell", use_device_again)  # once, however often
    name = torch.cuda.get_device_name(number) if on_gpu else "cpu"
    record(TOLD, name)
    return name


# The number of the GPU that was chosen last; nothing for the CPU.
_chosen: list[int] = []


def use_device_again(*_: object) -> None:
    """Choose the same device as the last call of `use_device`."""
    if _chosen:
        require_gpu(_chosen[0])
        use_pytorch_for_gpu_memory()  # one pool for both
    else:
        require_cpu()


def missing_for_gpu() -> str:
    """Return in words what keeps pipelines from a GPU; empty where nothing does."""
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no CUDA device"
    if not has_cupy_gpu:
        major = (torch.version.cuda or "13").partition(".")[0]
        extra = "gpu-cuda12" if major == "12" else "gpu"
        return f"cupy for CUDA {major} is missing or does not work: `pip install 'trfnb[{extra}]'`"
    return ""
