"""How exactly the encoder computes, and what this machine does natively."""

from typing import Literal, get_args

import torch

Precision = Literal["fp32", "bf16", "fp16", "auto"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def checked_precision(precision: str) -> None:
    """Look a precision up.

    Raises:
        ValueError: there is none of that name.
    """
    if precision not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        raise ValueError(f"precision expected one of {known}, got {precision!r}.")


def resolved(precision: Precision, device: torch.device) -> Precision:
    """Return what ``"auto"`` stands for on a device; other precisions stand for themselves.

    bf16 where its matrix products run natively, as token vectors keep a cosine above 0.999 there;
    elsewhere it is emulated, and slower than fp32.
    """
    if precision != "auto":
        return precision
    return "bf16" if native_bf16(device) else "fp32"


def native_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies matrices of bf16 natively."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    # Private, and not in every version: without them nothing is known, and fp32 is always right.
    return any(getattr(torch.cpu, name, bool)() for name in asked)
