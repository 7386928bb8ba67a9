"""On a GPU: the CPU's numbers, arrays that stay there, files that load on both sides.

Where there is none, arrays that cannot silently become host arrays stand for its own
(`device_arrays`), for all that needs no more than spaCy's and our code.
"""

import csv
import math
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pytest
import spacy
import torch
from device_arrays import stand_in
from small_pipelines import examples, initialized, transformer_pipeline
from thinc.api import fix_random_seed, get_current_ops, to_numpy

import trfnb
from trfnb import corpora, results, token_vectors, use_device
from trfnb.cli import main
from trfnb.device import missing_for_gpu
from trfnb.experiments import build_config, compare, train
from trfnb.pipe.architectures import registry
from trfnb.pretraining import pretrain

pytestmark = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(bool(missing_for_gpu()), reason=missing_for_gpu())
ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WHERE = {"cpu": "numpy", "cuda": "cupy"}
SPANS = [
    {},
    {"get_spans": {"@span_getters": "trfnb.strided_spans.v1", "window": 4, "stride": 2}},
    {"get_spans": {"@span_getters": "trfnb.token_windows.v1"}},
    {"layers": [1, 2]},
    {"precision": "bf16"},
    {"gradient_checkpointing": True},
]
BALANCERS = sorted(registry.balancers.get_all())
if missing_for_gpu():
    BALANCERS = ["trfnb.equal_norms.v1"]  # all read the same matrix, on the host


@pytest.fixture
def choose(monkeypatch):
    """Choose a device; without a GPU, ``"cuda"`` is what stands for one."""
    yield stand_in(monkeypatch) if missing_for_gpu() else use_device
    use_device("cpu")


def test_a_host_array_among_device_arrays_is_refused(choose):
    choose("cuda")
    ops = get_current_ops()
    array = ops.asarray2f([[1.0, 2.0]])
    with pytest.raises(TypeError):
        np.asarray(array)
    with pytest.raises(TypeError):
        array + np.ones(2)
    with pytest.raises(TypeError):
        ops.xp.abs(np.ones(2))
    assert not isinstance(array * 2 + ops.xp.concatenate([array, array]).sum(axis=0), np.ndarray)


def tok2vec_pipeline():
    """Two tasks on a small tok2vec of ours."""
    nlp = spacy.blank("en")
    nlp.add_pipe("trfnb_tok2vec", name="tok2vec")
    width = nlp.get_pipe("tok2vec").model.get_dim("nO")
    listener = {"@architectures": "trfnb.Tok2VecListener.v1", "width": width}
    for name in ("tagger", "ner"):
        nlp.add_pipe(name, config={"model": {"tok2vec": listener}})
    return initialized(nlp)


def updated(nlp, steps=3):
    """Train a little, without dropout; return the losses of each step."""
    optimizer = nlp.create_optimizer()
    found = []
    for _ in range(steps):
        fix_random_seed(0)
        found.append(nlp.update(examples(nlp), drop=0.0, sgd=optimizer, losses={}))
    return found


def annotated(nlp):
    """What a pipeline says of the four texts, as numbers on the host."""
    docs = list(nlp.pipe([eg.text for eg in examples(nlp)]))
    said = [[(token.tag_, token.ent_type_) for token in doc] for doc in docs]
    if "transformer" not in nlp.pipe_names:
        return said, np.zeros(1)
    return said, np.concatenate([to_numpy(token_vectors(doc)) for doc in docs])


@pytest.mark.parametrize("settings", SPANS, ids=lambda s: next(iter(s), "plain"))
def test_a_transformer_learns_and_says_the_same(choose, tiny, settings, tmp_path):
    in_half = "precision" in settings
    pipelines = {"cpu": transformer_pipeline(tiny, **settings)}
    pipelines["cpu"].to_disk(tmp_path / "start")
    choose("cuda")
    pipelines["cuda"] = spacy.load(tmp_path / "start")
    assert pipelines["cuda"].get_pipe("transformer").model.ops.name == "cupy"
    losses = {}
    for device, nlp in pipelines.items():
        choose(device)
        losses[device] = updated(nlp)
    for ours, theirs in zip(*losses.values(), strict=True):
        for name in ("tagger", "ner"):
            assert math.isclose(ours[name], theirs[name], rel_tol=0.05 if in_half else 2e-3)
    assert losses["cuda"][-1]["tagger"] < losses["cuda"][0]["tagger"]
    choose("cuda")
    before = annotated(pipelines["cuda"])
    pipelines["cuda"].to_disk(tmp_path / "trained")
    choose("cpu")
    after = annotated(spacy.load(tmp_path / "trained"))
    assert before[0] == after[0]
    np.testing.assert_allclose(before[1], after[1], atol=6e-2 if in_half else 1e-4)


def test_a_tok2vec_learns_and_says_the_same(choose, tmp_path):
    on_cpu = tok2vec_pipeline()
    on_cpu.to_disk(tmp_path / "start")
    expected = updated(on_cpu)
    choose("cuda")
    on_gpu = spacy.load(tmp_path / "start")
    found = updated(on_gpu)
    assert found[-1]["tagger"] == pytest.approx(expected[-1]["tagger"], rel=2e-3)
    on_gpu.to_disk(tmp_path / "trained")
    said = annotated(on_gpu)[0]
    choose("cpu")
    assert annotated(spacy.load(tmp_path / "trained"))[0] == said


def test_nothing_leaves_the_gpu(choose, tiny):
    choose("cuda")
    kind = type(get_current_ops().alloc1f(1))
    assert kind is not np.ndarray
    nlp = transformer_pipeline(tiny)
    updated(nlp, steps=1)
    for node in nlp.get_pipe("tagger").model.walk():  # a parser keeps a layer on the CPU
        held = [node.get_param(name) for name in node.param_names if node.has_param(name)]
        assert all(isinstance(array, kind) for array in held)
    shim = next(shim for node in nlp.get_pipe("transformer").model.walk() for shim in node.shims)
    where = {parameter.device.type for parameter in shim.loaded().parameters()}
    assert where == {"cpu" if missing_for_gpu() else "cuda"}
    batch = nlp.get_pipe("transformer").predict([nlp.make_doc("the river bank plans")])
    assert isinstance(batch.layer(-1), kind)


@pytest.mark.parametrize("name", BALANCERS)
def test_a_balancer_finds_the_same_factors(choose, tiny, name):
    if "cagrad" in name:
        pytest.importorskip("clarabel")
    found = {}
    for device in ("cpu", "cuda"):
        choose(device)
        nlp = spacy.blank("en")
        config = {"model": {"name": tiny}, "balance": {"@balancers": name}}
        nlp.add_pipe("trfnb_transformer", name="transformer", config=config)
        listener = {"@architectures": "trfnb.TransformerListener.v1"}
        for task in ("tagger", "ner"):
            nlp.add_pipe(task, config={"model": {"tok2vec": listener}})
        initialized(nlp)
        updated(nlp)
        log = nlp.get_pipe("transformer").gradient_log
        log.close()
        found[device] = log.table()[["listener", "factor", "raw_norm"]]
    assert list(found["cpu"]["listener"]) == list(found["cuda"]["listener"])
    for column in ("factor", "raw_norm"):
        assert np.allclose(found["cpu"][column], found["cuda"][column], rtol=0.02, equal_nan=True)


@needs_gpu
@pytest.mark.parametrize("sharing", ["shared", "independent", "frozen"])
def test_ways_of_sharing_are_compared(choose, minilm, sharing, tmp_path):
    assert choose("cuda") == torch.cuda.get_device_name(0)
    data = corpora.load("newsroom", limit=40, dev_limit=20)
    options = {"batch_words": 100}
    found = compare(data, encoder=minilm, sharings=[sharing], seeds=1, budget="600 words",
                    options=options, progress=False)  # fmt: skip
    assert found.runs["tag_acc"].iloc[0] > 0.05
    nlp = spacy.load(found.save(tmp_path / "winner"))
    said = [[token.tag_ for token in doc] for doc in nlp.pipe(["Rates rose again ."])]
    choose("cpu")
    nlp = spacy.load(tmp_path / "winner")
    assert said == [[token.tag_ for token in doc] for doc in nlp.pipe(["Rates rose again ."])]


@needs_gpu
def test_a_training_repeats_itself(choose, minilm):
    choose("cuda")
    data = corpora.load("newsroom", limit=40, dev_limit=20)
    config = build_config(["tagger", "ner", "textcat"], minilm, batch_words=100)
    first, again = (train(config, data, budget="400 words", progress=False) for _ in range(2))
    assert first.score == pytest.approx(again.score, abs=0.02)


@pytest.mark.parametrize(
    "objective",
    [
        {"@architectures": "trfnb.PretrainCharacters.v1", "hidden_size": 16},
        {"@architectures": "trfnb.PretrainWords.v1", "hidden_size": 16, "text": "TEXT"},
        {"@architectures": "trfnb.PretrainReplaced.v1", "hidden_size": 16},
        {"@architectures": "trfnb.PretrainDistillation.v1", "teacher": "TINY"},
    ],
    ids=lambda objective: objective["@architectures"].split(".")[1],
)
def test_pretraining(choose, objective, tiny, tmp_path):
    from small_runs import config, text

    choose("cuda")
    lines = text(tmp_path)
    given = {"TEXT": str(lines), "TINY": tiny}
    objective = {key: given.get(value, value) for key, value in objective.items()}
    pretrain(config(lines, objective), tmp_path / "out", progress=False)
    found = [row["dev_loss"] for row in csv.DictReader((tmp_path / "out/log.csv").open())]
    assert float(found[-1]) < float(found[0])


def test_static_vectors_are_embedded(choose, tmp_path):
    from spacy.vectors import Vectors

    found = {}
    rows = np.random.default_rng(0).normal(size=(4, 6)).astype("f4")
    for device, ops in WHERE.items():
        choose(device)
        assert get_current_ops().name == ops
        nlp = spacy.blank("en")
        nlp.vocab.vectors = Vectors(
            data=get_current_ops().asarray(rows), keys=["the", "river", "bank", "plans"]
        )
        fix_random_seed(0)
        layer = registry.architectures.get("trfnb.StaticVectors.v1")(width=8)
        docs = [eg.reference for eg in examples(nlp)]
        layer.initialize(docs)
        if device == "cpu":
            start = layer.to_bytes()
        layer.from_bytes(start)
        output, backward = layer.begin_update(docs)
        backward(output)
        found[device] = [to_numpy(array) for array in output]
    for ours, theirs in zip(*found.values(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_there(choose, path, tmp_path, monkeypatch, request):
    monkeypatch.chdir(ROOT)
    if missing_for_gpu():
        if "gpu" not in request.config.option.markexpr:
            pytest.skip(f"{missing_for_gpu()}; with -m gpu, arrays stand for a GPU's")
        run_cells(path, choose, monkeypatch)
        return
    out = tmp_path / "run"
    command = ["run", str(path), "-p", "smoke", "true", "--device", "cuda", "--out", str(out)]
    assert main(command) == 0
    # One notebook trains nothing, and keeps to the CPU.
    on_gpu = results(out)["device"].iloc[0] == torch.cuda.get_device_name(0)
    assert on_gpu == (path.stem != "07_words_or_context")


def run_cells(path, choose, monkeypatch):
    """Run a notebook's cells in this process, on arrays that stand for a GPU's."""
    monkeypatch.setattr(trfnb, "use_device", lambda device="cuda": choose(device))
    matplotlib.use("agg")
    names = {"__name__": "__main__", "display": lambda *shown: None}
    for number, cell in enumerate(nbformat.read(path, 4).cells):
        if cell.cell_type == "code":
            source = cell.source.replace("%matplotlib inline", "")
            exec(compile(source, f"{path.stem}, cell {number}", "exec"), names)
            if "smoke: bool" in cell.source:
                names["smoke"] = True
    # One notebook trains nothing, and keeps to the CPU.
    assert (get_current_ops().name == "cupy") == (path.stem != "07_words_or_context")
