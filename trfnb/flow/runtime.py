"""How an encoder runs: precision, budget of a forward pass, engine, and the process's memory."""

import ctypes
import os
import platform
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import Any, Literal

import torch
from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

Precision = Literal["fp32", "bf16", "fp16", "int8", "auto"]
EngineName = Literal["torch", "openvino", "auto"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

# On a CPU larger forward passes run out of cache: 4,096 wordpieces took 10-20 % longer a word.
_CPU_ITEMS = 1024
# Training pays for the gradient of all embeddings once a pass, and bf16 lays every matrix out anew
# for the processor: larger passes are worth their cache.
_CPU_LARGE_ITEMS = 2048
# On a GPU, times as many as in training, which keeps the states between layers: MiniLM over packs
# in bf16 on an H200 read 614,000 words a second at 4,096 wordpieces, 2,966,000 at 16,384.
_WITHOUT_GRAPH = 4
# mallopt's options, the largest that it takes, and how much free memory it may keep.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST, _KEPT = 32 * 2**20, 256 * 2**20

if hasattr(os, "register_at_fork"):
    # A forked process waits for ever for the threads of its parent's torch, which it does not have.
    os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


@dataclass(frozen=True)
class Runtime:
    """How to run the encoder; none of this is saved with its weights.

    Attributes:
        precision: ``"fp32"`` is exact; ``"bf16"`` and ``"fp16"`` run matrix products in half
            precision over weights that stay in fp32; ``"auto"`` is bf16 where the device
            multiplies it natively, and fp32 elsewhere; ``"int8"`` is inference by OpenVINO over
            what ``trfnb quantize`` rounded, and ``"auto"`` for all else.
        max_batch_items: The most wordpieces of one forward pass, padding included; on a GPU
            inference, which keeps nothing for a way back, takes four times as many.
        checkpointing: While training, keep the states between layers alone and compute the rest
            again on the way back: less memory for a second forward pass.
        engine: ``"torch"``, ``"openvino"`` (for inference on a CPU; training and GPUs use torch),
            or ``"auto"``: OpenVINO where it is installed, once there is enough to encode to be
            worth compiling the model, and where it computes what torch does.

    Raises:
        ValueError: there is no such precision or engine, or the budget is not a positive whole
            number.
    """

    precision: Precision = "fp32"
    max_batch_items: PositiveInt = 4096
    checkpointing: bool = False
    engine: EngineName = "auto"

    def items(self, device: torch.device, is_train: bool = False) -> int:
        """Return the budget of one forward pass on a device."""
        if device.type != "cpu":
            more = device.type == "cuda" and not is_train
            return self.max_batch_items * (_WITHOUT_GRAPH if more else 1)
        large = is_train or self.precision_on(device) != "fp32"
        return min(self.max_batch_items, _CPU_LARGE_ITEMS if large else _CPU_ITEMS)

    def precision_on(self, device: torch.device) -> Precision:
        """Return what ``"auto"`` and ``"int8"`` stand for in torch on a device; others stay.

        bf16 where its matrix products run natively, as token vectors keep a cosine above 0.999
        there; elsewhere it is emulated, and slower than fp32.
        """
        if self.precision not in ("auto", "int8"):
            return self.precision
        return "bf16" if native_bf16(device) else "fp32"

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Return the context that forward passes run in."""
        dtype = _DTYPES.get(self.precision_on(device))
        return torch.autocast(device.type, dtype=dtype) if dtype else nullcontext()


def native_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies matrices of bf16 natively."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    # Private, and not in every version: without them nothing is known, and fp32 is always right.
    return any(getattr(torch.cpu, name, bool)() for name in asked)


@cache
def keep_freed_memory() -> bool:
    """Ask glibc to serve arrays of up to 32 MB from its heap; return whether it agreed.

    Such an array otherwise comes fresh from the system at every pass, and each of its pages costs
    a fault when it is first written: up to a fifth of a training step in half precision.
    Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_MMAP_THRESHOLD, _LARGEST) and libc.mallopt(_TRIM_THRESHOLD, _KEPT))


def trim_memory() -> None:
    """Return freed memory to the system: batches of many shapes leave holes in glibc's heap."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
