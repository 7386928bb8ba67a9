"""Round a pipeline's encoder to eight bits, and keep it only where the vectors stay."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import spacy
import torch
from torch.nn import functional

from ..files import atomic_folder
from ..flow.batching import MicroBatch, Request
from ..flow.encoder import EncoderShim
from ..flow.engines import INT8, LayersOf, PaddedEngine, converting, int8_origin
from .exporting import encoder_of

# Wordpieces of a block, blocks to calibrate on at most, and which of them are kept for the check.
_ITEMS, _BLOCKS, _CHECKED = 512, 80, 5
# What is tried in turn: SmoothQuant's strength, and whether matrices that narrow are rounded too.
# In BERT's family these follow the activation; their inputs have outliers.
_RECIPES = [(0.7, True), (0.5, False)]


@dataclass
class Listening:
    """Takes the engines' place and keeps every request, so that a pipeline tells what it reads."""

    padded: PaddedEngine
    requests: list[Request] = field(default_factory=list)

    def choose(self, request: Request) -> PaddedEngine:
        """Note a request; the model itself runs it."""
        self.requests.append(request)
        return self.padded


def quantize(
    source: str | Path,
    target: str | Path,
    texts: Iterable[str],
    component: str | None = None,
    least: float = 0.99,
) -> tuple[float, int]:
    """Write a pipeline whose encoder runs in int8, by OpenVINO, for inference on a CPU.

    The texts go through the pipeline, so that the encoder is rounded for the spans and layers that
    its tasks read; a fifth of them is kept for the check. Weights stay in fp32 beside the rounded
    copy: training goes on from them, after which the pipeline has to be quantised again. By nncf
    with SmoothQuant (Xiao et al., 2022, https://arxiv.org/abs/2211.10438).

    Args:
        source: The pipeline's directory, or the name of an installed pipeline.
        target: The directory to write.
        texts: Of the kind that the pipeline will read, some hundred of them.
        component: Whose encoder, where several have one.
        least: The least cosine, at the 1st percentile of all wordpieces that were kept for the
            check, between a state in int8 and in fp32.

    Returns:
        That cosine, and on how many wordpieces.

    Raises:
        OSError: there is no pipeline at `source`.
        ImportError: nncf or OpenVINO is not installed.
        ValueError: there is no encoder or more than one, there are too few texts, or no way of
            rounding reached `least`; nothing is written.
    """
    try:
        import nncf
        import openvino
    except ImportError as error:
        raise ImportError("quantize needs nncf: run `pip install 'trfnb[quantize]'`.") from error
    nlp = spacy.load(source)
    name, node = encoder_of(nlp, component)
    shim = cast(EncoderShim, node.shims[0])
    node.attrs["runtime"] = replace(node.attrs["runtime"], precision="fp32", engine="torch")
    listening = Listening(shim.begin(False).padded)
    shim.engines = cast(Any, listening)
    list(nlp.pipe(texts))
    blocks = [
        block
        for request in listening.requests
        for block in listening.padded.blocks(request, _ITEMS)
    ]
    if len(blocks) < _CHECKED:
        raise ValueError(
            f"quantize expected texts of {_CHECKED * _ITEMS:,} wordpieces or more, got "
            f"{sum(block.mask.sum() for block in blocks):,}. Give a few hundred sentences."
        )
    blocks = [blocks[i] for i in np.random.default_rng(0).permutation(len(blocks))[:_BLOCKS]]
    layers = sorted({layer for request in listening.requests for layer in request.layers})
    module = LayersOf(listening.padded, layers)
    logging.getLogger("nncf").setLevel(logging.WARNING)
    with converting("OpenVINO cannot convert this encoder"):
        graph = openvino.convert_model(module, example_input=listening.padded.example())
    checked, rest = blocks[::_CHECKED], [b for i, b in enumerate(blocks) if i % _CHECKED]
    with torch.no_grad():
        expected = [module(*map(torch.from_numpy, _inputs(block))) for block in checked]
    reached = []
    for strength, narrowing in _RECIPES:
        skipped = [] if narrowing else _narrowing(graph)
        rounded = nncf.quantize(
            graph,
            nncf.Dataset(rest, _inputs),
            subset_size=len(rest),
            model_type=nncf.ModelType.TRANSFORMER,
            ignored_scope=nncf.IgnoredScope(names=skipped),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=strength)
            ),
        )
        cosines = _cosines(rounded, checked, expected)
        reached.append(float(np.percentile(cosines, 1)))
        if reached[-1] >= least:
            break
    else:
        raise ValueError(
            f"quantize expected cosines of {least} or more at the 1st percentile, got "
            f"{max(reached):.4f}: this encoder loses more. Stay with bf16, or accept it with "
            "--least."
        )
    rounded.set_rt_info(int8_origin(listening.padded.digest(), layers), ["trfnb"])
    _set_precision(nlp.get_pipe_config(name))
    with atomic_folder(target) as folder:
        paths = [folder / name for name in INT8]
        openvino.save_model(rounded, paths[0], compress_to_fp16=False)
        shim.int8 = {path.name: path.read_bytes() for path in paths}
        for path in paths:
            path.unlink()
        nlp.to_disk(folder)
    return reached[-1], len(cosines)


# Return what a model of `LayersOf` reads of a block.
def _inputs(block: MicroBatch) -> list[Any]:
    return [block.ids, block.mask.astype("int64")]


# Return the matrix products with weights whose rows are longer than their columns.
def _narrowing(graph: Any) -> list[str]:
    names = []
    for node in graph.get_ops():
        if node.get_type_name() == "MatMul":
            read, made = node.get_input_partial_shape(0)[-1], node.get_output_partial_shape(0)[-1]
            if read.is_static and made.is_static and read.get_length() > made.get_length():
                names.append(node.get_friendly_name())
    return names


# Return the cosine of each wordpiece's states in int8 with those expected, of each layer.
def _cosines(
    graph: Any, blocks: list[MicroBatch], expected: list[tuple[torch.Tensor, ...]]
) -> np.ndarray:
    import openvino

    compiled, found = openvino.Core().compile_model(graph, "CPU"), []
    for block, layers in zip(blocks, expected, strict=True):
        rounded, mask = compiled(_inputs(block)), torch.from_numpy(block.mask)
        for place, states in enumerate(layers):
            ours = torch.from_numpy(rounded[place])[mask]
            found.append(functional.cosine_similarity(ours, states[mask], dim=-1).numpy())
    return np.concatenate(found)


# Ask for int8 in a component's config, wherever in it the transformer stands.
def _set_precision(block: dict[str, Any]) -> None:
    if "Transformer" in block.get("@architectures", "") and "name" in block:
        block["precision"] = "int8"
    for value in block.values():
        if isinstance(value, dict):
            _set_precision(value)
