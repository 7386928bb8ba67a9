"""OpenVINO alone over length-sorted batches, without tokens, without docs."""

import openvino
import torch
from raw import LastLayer, Raw

CHOICES: list[int] = []
DEFAULT = 0


def build(path, precision, choice, train=False, dropout=True):
    """Convert and compile the model, with OpenVINO's own settings but the precision."""
    model = LastLayer(path)
    with torch.no_grad():
        graph = openvino.convert_model(model, example_input=model.example)
    settings = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
    compiled = openvino.Core().compile_model(graph, "CPU", settings)
    return Raw(path, lambda ids, mask: compiled([ids, mask])[0])
