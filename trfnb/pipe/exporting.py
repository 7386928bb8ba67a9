"""A saved pipeline's encoder, converted and checked.

`export` writes it for other programs, as ONNX, OpenVINO or a HuggingFace folder; `quantize` rounds
it to eight bits within its pipeline.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import spacy
import torch
import transformers
from numpy.typing import NDArray
from spacy.language import Language
from thinc.api import Model, to_numpy

from ..files import atomic_folder, refuse_existing
from ..flow.batching import MicroBatch, Request
from ..flow.encoder import EncoderInput, EncoderShim, HiddenStates, encoders
from ..flow.engines import INT8, LayersOf, PaddedEngine, converting, cosines, int8_origin
from ..flow.saving import folder_of, weights_digest
from ..flow.wordpieces import encode, max_wordpieces

# Ids and mask, (texts, wordpieces) -> the last layer's states, (texts, wordpieces, width).
Run = Callable[[Any, Any], NDArray[np.float32]]

# What an export is compared with the pipeline on; the last is as long as the encoder reads.
_TEXTS = [
    "A cat.",
    "The river bank plans to meet in April, at 9:30!",
    "Naïve café, 北京, Москва 🙂",
    " ".join(map(str, range(400))),
]
_INPUTS, _OUTPUT = ["input_ids", "attention_mask"], "last_hidden_state"
# A file of ONNX holds less than this many bytes; more go into a file beside it.
_ONNX_BYTES = 2**31 - 2**20
# To round: wordpieces of a block, blocks to calibrate on at most, which of them the check keeps.
_ITEMS, _BLOCKS, _CHECKED = 512, 80, 5
# What is tried in turn: SmoothQuant's strength, and whether matrices that narrow are rounded too.
# In BERT's family these follow the activation; their inputs have outliers.
_RECIPES = [(0.7, True), (0.5, False)]


def export(
    source: str | Path,
    target: str | Path,
    to: str,
    component: str | None = None,
    tolerance: float = 1e-4,
) -> tuple[float, int]:
    """Write a pipeline's encoder and its tokenizer as files that another program runs.

    The files are read back and compared with the pipeline before the folder gets its name. Updates
    by LoRA are merged into the weights.

    Args:
        source: The pipeline's directory, or the name of an installed pipeline.
        target: A directory that does not exist yet.
        to: ``"onnx"`` (``model.onnx``), ``"openvino"`` (``openvino_model.xml``), or
            ``"safetensors"`` (a folder for ``AutoModel.from_pretrained``).
        component: Whose encoder, where several have one.
        tolerance: The largest difference of a hidden state to accept, in fp32.

    Returns:
        The largest difference of a hidden state from the pipeline's, and on how many wordpieces.

    Raises:
        OSError: there is no pipeline at `source`.
        ImportError: the packages that write or run a format are not installed.
        ValueError: there is no such format, `target` exists, there is no encoder or more than
            one, it cannot be converted, or the files compute something else; nothing is left.
    """
    if to not in _FORMATS:
        raise ValueError(f"export expected a format of {', '.join(_FORMATS)}, got {to!r}.")
    refuse_existing(target, "export")
    packages, write, use = _FORMATS[to]
    if missing := [name for name in packages if find_spec(name) is None]:
        raise ImportError(
            f"export --to {to} needs {', '.join(missing)}: run `pip install 'trfnb[export]'`."
        )
    _, _, node, shim = _opened(source, component)
    limit = max_wordpieces(shim.tokenizer, shim.config)
    states = node.predict((encode(shim.tokenizer, _TEXTS, limit), [-1]))[0]
    hf_model: Any = shim.loaded().cpu()
    if shim.lora is not None:
        hf_model = hf_model.merge_and_unload()
    engine = replace(shim.begin(False).padded, hf_model=hf_model)
    alone = shim.tokenizer.pad_token is None or engine.padding_counts
    with atomic_folder(target, new="export") as folder:
        shim.tokenizer.save_pretrained(folder)
        hf_model.config.save_pretrained(folder)
        failed = (
            f"export --to {to} expected an encoder that can be converted and run, but that failed: "
            "use another format, safetensors takes any."
        )
        with converting(failed):
            run = write(folder, LayersOf(engine, [shim.n_layers]), engine.example())
            found = _states(folder, run, shim, limit, alone)
        expected = to_numpy(states[shim.n_layers])
        same = found.shape == expected.shape  # else the tokenizers differ
        apart = float(np.abs(found - expected).max()) if same else float("inf")
        if not apart <= tolerance:
            raise ValueError(
                f"export --to {to} expected hidden states within {tolerance:g} of the pipeline's, "
                f"got a difference of {apart:.2g}: what was written computes something else. Use "
                "another format, or accept the difference with --tolerance."
            )
        checked = f"{apart:.1e} on {len(found)} wordpieces"
        (folder / "README.md").write_text(
            _readme(to, use, checked, hf_model, limit, alone), encoding="utf8"
        )
    return apart, len(found)


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
        target: The directory to make.
        texts: Of the kind that the pipeline will read, some hundred of them.
        component: Whose encoder, where several have one.
        least: The least cosine, at the 1st percentile of all wordpieces that were kept for the
            check, between a state in int8 and in fp32.

    Returns:
        That cosine, and on how many wordpieces.

    Raises:
        OSError: there is no pipeline at `source`.
        ImportError: nncf or OpenVINO is not installed.
        ValueError: `target` exists, there is no encoder or more than one, its settings exclude
            int8, there are too few texts, or no way of rounding reached `least`; nothing is
            written.
    """
    refuse_existing(target, "quantize")
    try:
        import nncf
        import openvino
    except ImportError as error:
        raise ImportError("quantize needs nncf: run `pip install 'trfnb[quantize]'`.") from error
    nlp, name, _, shim = _opened(source, component)
    padded, requests = shim.begin(False).padded, list[Request]()
    block = _transformer_block(nlp.get_pipe_config(name)) or {}
    excluded = {
        "an architecture not of trfnb's (`trfnb import-pipeline` rewrites some)": not block,
        'engine = "torch", which runs no int8: set engine = "auto"': block.get("engine") == "torch",
        "attentions = true, which torch alone returns: set it to false": padded.attentions,
    }
    for reason, holds in excluded.items():
        if holds:
            raise ValueError(
                f"quantize expected in {name} a transformer that may run in int8, got one with "
                f"{reason}."
            )

    # Takes the engines' place, so that the pipeline tells what it reads.
    def listen(request: Request) -> PaddedEngine:
        requests.append(request)
        return padded

    shim.engines = cast(Any, SimpleNamespace(padded=padded, choose=listen))
    list(nlp.pipe(texts))
    blocks = [block for request in requests for block in padded.blocks(request, _ITEMS)]
    if len(blocks) < _CHECKED:
        raise ValueError(
            f"quantize expected texts of {_CHECKED * _ITEMS:,} wordpieces or more, got "
            f"{sum(block.mask.sum() for block in blocks):,}. Give a few hundred sentences."
        )
    blocks = [blocks[i] for i in np.random.default_rng(0).permutation(len(blocks))[:_BLOCKS]]
    layers = sorted({layer for request in requests for layer in request.layers})
    module = LayersOf(padded, layers)
    logging.getLogger("nncf").setLevel(logging.WARNING)
    with converting("OpenVINO cannot convert this encoder"):
        graph = openvino.convert_model(module, example_input=padded.example())
    checked, rest = blocks[::_CHECKED], [b for i, b in enumerate(blocks) if i % _CHECKED]
    with torch.no_grad():
        expected = [module(*map(torch.from_numpy, _inputs(block))) for block in checked]
    core, reached = openvino.Core(), []
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
        compiled, pairs = core.compile_model(rounded, "CPU"), zip(checked, expected, strict=True)
        found = [cosines(compiled, _inputs(block), states) for block, states in pairs]
        reached.append(float(np.percentile(torch.cat(found).numpy(), 1)))
        if reached[-1] >= least:
            break
    else:
        raise ValueError(
            f"quantize expected cosines of {least} or more at the 1st percentile, got "
            f"{max(reached):.4f}: this encoder loses more. Stay with bf16, or accept it with "
            "--least."
        )
    rounded.set_rt_info(int8_origin(weights_digest(padded.hf_model), layers), ["trfnb"])
    block["precision"] = "int8"
    with folder_of() as folder:
        openvino.save_model(rounded, folder / INT8[0], compress_to_fp16=False)
        shim.int8 = {name: (folder / name).read_bytes() for name in INT8}
    with atomic_folder(target, new="quantize") as folder:
        nlp.to_disk(folder)
        spacy.load(folder)  # what cannot be opened gets no name
    return reached[-1], sum(map(len, found))


# Open a pipeline, and return the component that has an encoder, the layer that runs it, by torch in
# fp32, and its weights.
def _opened(
    source: str | Path, component: str | None
) -> tuple[Language, str, Model[EncoderInput, HiddenStates], EncoderShim]:
    nlp = spacy.load(source)
    components: dict[str, Any] = dict(nlp.components)
    found = [
        (name, node)
        for name, pipe in components.items()
        if component in (None, name) and isinstance(getattr(pipe, "model", None), Model)
        for node in encoders(pipe.model)
    ]
    if len(found) != 1:
        raise ValueError(
            f"Expected one transformer in {component or 'all components'} of the pipeline "
            f"({', '.join(components)}), got {len(found)}: "
            f"{', '.join(name for name, _ in found) or 'none'}. Choose a component that has one "
            "with --component; spaCy's own tok2vec runs in spaCy alone."
        )
    ((name, node),) = found
    node.attrs["runtime"] = replace(node.attrs["runtime"], precision="fp32", engine="torch")
    return nlp, name, node, cast(EncoderShim, node.shims[0])


# Return the states of the texts' wordpieces as another program computes them.
def _states(folder: Path, run: Run, shim: EncoderShim, limit: int | None, alone: bool) -> Any:
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        folder, trust_remote_code=shim.trust_remote_code
    )
    cut = {} if limit is None else {"truncation": True, "max_length": limit}
    found = []
    for texts in [[text] for text in _TEXTS] if alone else [_TEXTS]:
        read = tokenizer(texts, padding=not alone, return_tensors="np", **cut)
        ids, mask = (read[name].astype("int64") for name in _INPUTS)
        found.append(run(ids, mask)[mask.astype(bool)])
    return np.concatenate(found)


def _write_onnx(folder: Path, module: LayersOf, example: Any) -> Run:
    import onnxruntime

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    path, free = folder / "model.onnx", {0: "texts", 1: "wordpieces"}
    torch.onnx.export(
        module,
        example,
        path,
        input_names=_INPUTS,
        output_names=[_OUTPUT],
        dynamic_shapes=(free, free),
        external_data=sum(one.nbytes for one in module.parameters()) > _ONNX_BYTES,
        dynamo=True,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda *read: session.run([_OUTPUT], dict(zip(_INPUTS, read, strict=True)))[0]


def _write_openvino(folder: Path, module: LayersOf, example: Any) -> Run:
    import openvino

    graph = openvino.convert_model(module, example_input=example)
    for port, name in zip([*graph.inputs, *graph.outputs], [*_INPUTS, _OUTPUT], strict=True):
        port.get_tensor().set_names({name})
    openvino.save_model(graph, folder / "openvino_model.xml", compress_to_fp16=False)
    # On Windows a file that is mapped cannot be moved.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_MMAP": False}
    compiled = openvino.Core().compile_model(folder / "openvino_model.xml", "CPU", settings)
    return lambda *read: compiled(dict(zip(_INPUTS, read, strict=True)))[_OUTPUT]


def _write_safetensors(folder: Path, module: LayersOf, example: Any) -> Run:
    hf_model: Any = module.hf_model
    hf_model.save_pretrained(folder, max_shard_size="1000GB")
    again = replace(module.padded, hf_model=type(hf_model).from_pretrained(folder).eval())
    return lambda ids, mask: again.output(
        torch.from_numpy(ids), torch.from_numpy(mask)
    ).last_hidden_state.numpy()


# The packages that a format needs, what writes it, and how another program runs it.
_FORMATS: dict[str, tuple[list[str], Callable[[Path, LayersOf, Any], Run], str]] = {
    "onnx": (
        ["onnx", "onnxscript", "onnxruntime"],
        _write_onnx,
        """import onnxruntime

session = onnxruntime.InferenceSession(f"{folder}/model.onnx")
states = session.run(["last_hidden_state"], dict(read))[0]""",
    ),
    "openvino": (
        ["openvino"],
        _write_openvino,
        """import openvino

# As exact as the pipeline; without this setting some processors compute in bf16.
exact = {"INFERENCE_PRECISION_HINT": "f32"}
model = openvino.Core().compile_model(f"{folder}/openvino_model.xml", "CPU", exact)
states = model(dict(read))["last_hidden_state"]""",
    ),
    "safetensors": (
        [],
        _write_safetensors,
        """import torch
from transformers import LOADER

model = LOADER.from_pretrained(folder)
with torch.no_grad():
    states = model(**read.convert_to_tensors("pt")).last_hidden_state""",
    ),
}


def _readme(to: str, use: str, checked: str, hf_model: Any, limit: int | None, alone: bool) -> str:
    config, name = hf_model.config, type(hf_model).__name__
    use = use.replace("LOADER", name if hasattr(transformers, name) else "AutoModel")
    texts = '["A text."]' if alone else '["A text.", "Another one."], padding=True'
    cut = "" if limit is None else f", truncation=True, max_length={limit}"
    return f"""# The encoder of a spaCy pipeline, for {to}

An encoder of the kind {config.model_type}, {config.num_hidden_layers} layers, from a pipeline of
spaCy and trfnb; its tokenizer's files are beside it.

| | name | type | shape |
| --- | --- | --- | --- |
| in | `input_ids` | int64 | texts, wordpieces |
| in | `attention_mask` | int64 | texts, wordpieces; 0 where `input_ids` is padding |
| out | `last_hidden_state` | float32 | texts, wordpieces, {config.hidden_size} |

Largest difference from the pipeline's own states, in fp32 on a CPU: {checked}.
The pipeline takes the mean of a token's wordpieces for its vector, and a task in it may read a
lower layer. {"Read one text at a time: padding changes the states." * alone}

```python
from transformers import AutoTokenizer

folder = "."  # where this file is
tokenizer = AutoTokenizer.from_pretrained(folder)
options = dict(return_tensors="np", return_token_type_ids=False)
read = tokenizer({texts}{cut}, **options)

{use}
```
"""


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


# Return the settings of trfnb's transformer, wherever in a component's config it stands.
def _transformer_block(block: dict[str, Any]) -> dict[str, Any] | None:
    name = block.get("@architectures", "")
    if name.startswith("trfnb.") and "Transformer" in name and "name" in block:
        return block
    inner = (_transformer_block(value) for value in block.values() if isinstance(value, dict))
    return next(filter(None, inner), None)
