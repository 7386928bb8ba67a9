"""Matrix products by NumPy's or PyTorch's BLAS in layers that were built for BLIS.

Thinc multiplies by BLIS, which reaches a third of what OpenBLAS reaches on processors with
512-bit vectors. The layers stay what they are: only the object that computes for them is another,
so that weights, sizes and files do not differ.
"""

from typing import Any, Literal, get_args

import numpy as np
import torch
from thinc.api import Model, NumpyOps

from trfnb.flow.engines import native_bf16

Precision = Literal["fp32", "bf16", "auto"]


class BlasOps(NumpyOps):
    """NumPy operations with products by OpenBLAS, in fp32."""

    name = "numpy"

    def gemm(
        self, x: Any, y: Any, out: Any = None, trans1: bool = False, trans2: bool = False
    ) -> Any:
        """Multiply two matrices; ``out`` is overwritten where it is given."""
        return np.matmul(x.T if trans1 else x, y.T if trans2 else y, out=out)


class HalfOps(BlasOps):
    """NumPy operations with products in bf16, summed in fp32."""

    def gemm(
        self, x: Any, y: Any, out: Any = None, trans1: bool = False, trans2: bool = False
    ) -> Any:
        """Multiply two matrices rounded to bf16."""
        a, b = (torch.from_numpy(np.ascontiguousarray(z)).bfloat16() for z in (x, y))
        product = torch.mm(a.T if trans1 else a, b.T if trans2 else b).float().numpy()
        if out is None:
            return product
        out[...] = product
        return out


def accelerate(model: Model, precision: Precision = "fp32") -> None:
    """Let a model's layers on the CPU multiply by the faster BLAS.

    Args:
        model: Changed in place; layers on a GPU stay as they are.
        precision: ``"auto"`` is bf16 where the processor has it.

    Raises:
        ValueError: No such precision.
    """
    if precision not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        raise ValueError(f"precision expected one of {known}, got {precision!r}.")
    half = precision == "bf16" or (precision == "auto" and native_bf16(torch.device("cpu")))
    ops = HalfOps() if half else BlasOps()
    for node in model.walk():
        if isinstance(node.ops, NumpyOps):
            node.ops = ops
