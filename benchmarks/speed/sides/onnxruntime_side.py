"""ONNX Runtime over length-sorted batches; int8 by its own dynamic quantisation of weights."""

import tempfile
from pathlib import Path

import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from raw import LastLayer, Raw

CHOICES: list[int] = []
DEFAULT = 0


def build(path, precision, choice, train=False, dropout=True):
    """Export the model, and quantise it where int8 is asked for."""
    model, names = LastLayer(path), ["ids", "mask"]
    with tempfile.TemporaryDirectory() as folder:
        exported, used = Path(folder) / "model.onnx", Path(folder) / f"{precision}.onnx"
        with torch.no_grad():
            torch.onnx.export(
                model, model.example, exported, dynamo=False, input_names=names,
                output_names=["states"],
                dynamic_axes={name: {0: "texts", 1: "longest"} for name in [*names, "states"]},
            )  # fmt: skip
        if precision == "int8":
            quantize_dynamic(exported, used, weight_type=QuantType.QInt8)
        else:
            used = exported
        session = onnxruntime.InferenceSession(used, providers=["CPUExecutionProvider"])
    return Raw(path, lambda ids, mask: session.run(None, {"ids": ids, "mask": mask})[0])
