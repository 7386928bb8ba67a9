"""The component in a pipeline: who gets which gradient, when the shared weights step, saving."""

import numpy as np
import pytest
import spacy
import torch
from small_pipelines import examples, initialized, transformer_pipeline
from spacy.training import Example
from thinc.api import Adam, fix_random_seed

import trfnb
from trfnb.flow.encoder import encoders, engine_report, set_runtime
from trfnb.flow.listener import TransformerListener

TEXTS = ["Paris meets April in the bank .", "the river", "", "  ", "unable plans of the river bank"]


def listener(nlp, name) -> TransformerListener:
    return next(n for n in nlp.get_pipe(name).model.walk() if isinstance(n, TransformerListener))


def shim(nlp, name="transformer"):
    return next(s for n in nlp.get_pipe(name).model.walk() for s in n.shims)


def weights(nlp) -> dict[str, np.ndarray]:
    return {k: v.detach().numpy().copy() for k, v in shim(nlp).loaded().named_parameters()}


def step(nlp, batch=None, exclude=(), annotates=()):
    """One update as spaCy's own training loop makes it; return the encoder's gradients."""
    losses: dict[str, float] = {}
    fix_random_seed(0)  # the parser's own update draws where to cut its sequences
    batch = batch or examples(nlp)
    nlp.update(batch, sgd=False, losses=losses, exclude=exclude, annotates=annotates)
    nlp.get_pipe("transformer").send_back()
    return {
        name: parameter.grad.numpy().copy()
        for name, parameter in shim(nlp).loaded().named_parameters()
        if parameter.grad is not None
    }, losses


def test_vectors_do_not_depend_on_the_batch(tiny):
    nlp = transformer_pipeline(tiny)
    together = list(nlp.pipe(TEXTS))
    for doc, text in zip(together, TEXTS, strict=True):
        alone = nlp(text)
        vectors = trfnb.token_vectors(doc)
        assert vectors.shape == (len(doc), 16)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, trfnb.token_vectors(alone), atol=1e-5)
        for token, vector in zip(doc, vectors, strict=True):
            assert token.is_space == (not vector.any())


def test_trf_data_as_in_the_guide(tiny):
    doc = transformer_pipeline(tiny)("Paris meets April")
    data = doc._.trf_data
    assert data.tensors[-1].shape == (1, 5, 16)
    assert data.last_hidden_state is not None
    assert data.width == 16
    flat = data.tensors[-1].reshape(-1, data.width)
    for i, token in enumerate(doc):
        rows = flat[data.align[i].dataXd.ravel()]
        np.testing.assert_allclose(rows.mean(0), trfnb.token_vectors(doc)[token.i], atol=1e-6)


def test_padded_tensors_of_several_spans(tiny):
    spans = {"@span_getters": "trfnb.strided_spans.v1", "window": 3, "stride": 2}
    doc = transformer_pipeline(tiny, get_spans=spans)("the bank in Paris meets the river April")
    data = doc._.trf_data
    n_spans, longest, width = data.tensors[-1].shape
    assert n_spans == 4
    assert longest == data.wordpieces.lengths.max()
    flat = data.tensors[-1].reshape(-1, width)
    for i in range(len(doc)):
        np.testing.assert_allclose(
            flat[data.align[i].dataXd.ravel()].mean(0), trfnb.token_vectors(doc)[i], atol=1e-6
        )


def test_the_guides_python_construction(tiny):
    from trfnb import Transformer, TransformerModel, get_doc_spans, null_annotation_setter

    nlp = spacy.blank("en")
    trf = Transformer(
        nlp.vocab,
        TransformerModel(tiny, get_spans=get_doc_spans, tokenizer_config={"use_fast": True}),
        annotation_setter=null_annotation_setter,
        max_batch_items=4096,
    )
    trf.initialize(lambda: examples(nlp))
    assert trf(nlp.make_doc("Paris meets"))._.trf_data.tensors[-1].shape == (1, 4, 16)


def test_annotation_setter_may_be_replaced(tiny):
    nlp = transformer_pipeline(tiny)
    seen = []
    nlp.get_pipe("transformer").annotation_setter = lambda docs, batch: seen.append((docs, batch))
    docs = list(nlp.pipe(TEXTS))
    assert [doc for batch, _ in seen for doc in batch] == docs
    assert seen[0][1].layer(-1).shape[1] == 16
    assert nlp.get_pipe("transformer").set_extra_annotations is not None


def test_one_backward_pass_for_all_listeners(tiny, monkeypatch):
    nlp = transformer_pipeline(tiny)
    calls = []
    backward = torch.autograd.backward
    monkeypatch.setattr(
        torch.autograd, "backward", lambda *args, **kw: (calls.append(1), backward(*args, **kw))
    )
    step(nlp)
    assert len(calls) == 1


def test_nothing_moves_at_factor_zero(tiny, monkeypatch):
    """Not even by weight decay, and not by momentum of earlier steps."""
    nlp = transformer_pipeline(tiny)
    optimizer = Adam(0.01, L2=0.1)
    for _ in range(2):
        nlp.update(examples(nlp), sgd=False)
        for _, pipe in nlp.pipeline:
            pipe.finish_update(optimizer)
    for name in ("tagger", "ner"):
        listener(nlp, name).grad_factor = 0.0
    before = weights(nlp)
    tagger_before = nlp.get_pipe("tagger").model.to_bytes()
    monkeypatch.setattr(torch.autograd, "backward", lambda *a, **k: pytest.fail("ran backward"))
    for _ in range(3):
        nlp.update(examples(nlp), sgd=False)
        for _, pipe in nlp.pipeline:
            pipe.finish_update(optimizer)
    after = weights(nlp)
    assert all((before[name] == after[name]).all() for name in before)
    assert nlp.get_pipe("tagger").model.to_bytes() != tagger_before


def test_nlp_update_steps_after_the_gradients_arrived(tiny):
    """`nlp.update(sgd=…)` calls the shared component's step before its listeners have run."""
    one, two = transformer_pipeline(tiny), transformer_pipeline(tiny)
    start = weights(one)
    first, second = Adam(0.001), Adam(0.001)
    for seed in range(3):
        fix_random_seed(seed)
        one.update(examples(one), sgd=first)
        fix_random_seed(seed)
        two.update(examples(two), sgd=False)
        for _, pipe in two.pipeline:
            pipe.finish_update(second)
    moved, expected = weights(one), weights(two)
    assert any((moved[name] != start[name]).any() for name in start)
    for name in expected:
        np.testing.assert_allclose(moved[name], expected[name], atol=1e-6, err_msg=name)


def test_accumulated_gradients_add_up(tiny):
    nlp = transformer_pipeline(tiny)
    batch = examples(nlp)
    first, _ = step(nlp, batch[:2])
    shim(nlp).loaded().zero_grad()
    second, _ = step(nlp, batch[2:])
    shim(nlp).loaded().zero_grad()
    for half in (batch[:2], batch[2:]):
        fix_random_seed(0)
        nlp.update(half, sgd=False)
    nlp.get_pipe("transformer").send_back()
    for name, parameter in shim(nlp).loaded().named_parameters():
        if parameter.grad is not None:
            np.testing.assert_allclose(
                parameter.grad.numpy(), first[name] + second[name], atol=1e-4, err_msg=name
            )


def test_frozen_and_annotating(tiny):
    nlp = transformer_pipeline(tiny)
    before = weights(nlp)
    tagger = nlp.get_pipe("tagger").model.to_bytes()
    optimizer = Adam(0.01)
    for _ in range(2):
        nlp.update(examples(nlp), sgd=False, exclude=["transformer"], annotates=["transformer"])
        for name, pipe in nlp.pipeline:
            if name != "transformer":
                pipe.finish_update(optimizer)
    assert all((before[name] == now).all() for name, now in weights(nlp).items())
    assert nlp.get_pipe("tagger").model.to_bytes() != tagger


def test_frozen_without_annotating_learns_the_same(tiny):
    """The listeners then ask the transformer for its output."""
    found = []
    for annotates in ([], ["transformer"]):
        nlp = transformer_pipeline(tiny)
        optimizer = Adam(0.01)
        nlp.update(examples(nlp), sgd=False, exclude=["transformer"], annotates=annotates)
        nlp.get_pipe("tagger").finish_update(optimizer)
        found.append(nlp.get_pipe("tagger").model.get_ref("softmax").get_param("W"))
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_a_frozen_last_listener_does_not_hold_up_the_others(tiny):
    nlp = transformer_pipeline(tiny)
    gradient, _ = step(nlp, exclude=["ner"])
    assert max(abs(g).max() for g in gradient.values()) > 0


def test_listeners_to_different_layers(tiny):
    nlp = transformer_pipeline(tiny, tagger={"layer": 1}, ner={"layer": -1, "grad_factor": 0.0})
    gradient, _ = step(nlp)
    assert not any("layer.2" in name and abs(g).max() > 0 for name, g in gradient.items())
    assert abs(gradient["encoder.layer.0.output.dense.weight"]).max() > 0
    doc = nlp("the river")
    assert trfnb.token_vectors(doc, 1).shape == (2, 16)
    with pytest.raises(ValueError, match=r"Layer 2 of 3 was not kept; kept: \[1, 3\]"):
        trfnb.token_vectors(doc, 2)


def test_a_schedule_steps_once_a_training_step(tiny):
    ramp = {
        "@schedules": "warmup_linear.v1",
        "initial_rate": 1.0,
        "warmup_steps": 4,
        "total_steps": 100,
    }
    nlp = transformer_pipeline(tiny, tagger={"grad_factor": ramp})
    seen = []
    optimizer = Adam(0.001)
    for _ in range(4):
        seen.append(listener(nlp, "tagger").grad_factor)
        for half in (examples(nlp)[:2], examples(nlp)[2:]):
            nlp.update(half, sgd=False)
        for _, pipe in nlp.pipeline:
            pipe.finish_update(optimizer)
    assert seen == [0.0, 0.25, 0.5, 0.75]


def test_independent_equals_a_listener_alone(tiny):
    """One task on its own transformer learns as the same task does on a shared one."""
    shared = transformer_pipeline(tiny, ner={"grad_factor": 0.0})
    alone = spacy.blank("en")
    alone.add_pipe(
        "tagger",
        config={
            "model": {
                "tok2vec": {"@architectures": "trfnb.Tok2VecTransformer.v1", "name": str(tiny)}
            }
        },
    )
    initialized(alone)
    alone.get_pipe("tagger").model.get_ref("softmax").set_param(
        "W", shared.get_pipe("tagger").model.get_ref("softmax").get_param("W").copy()
    )
    one, two = Adam(0.01), Adam(0.01)
    for _ in range(3):
        for nlp, optimizer in ((shared, one), (alone, two)):
            nlp.update(examples(nlp), sgd=False)
            for _, pipe in nlp.pipeline:
                pipe.finish_update(optimizer)
    expected = weights(shared)
    for name, parameter in shim(alone, "tagger").loaded().named_parameters():
        np.testing.assert_allclose(parameter.detach().numpy(), expected[name], atol=1e-5)


def test_replace_listeners_keeps_predictions(tiny, tmp_path):
    nlp = transformer_pipeline(tiny)
    nlp.update(examples(nlp), sgd=Adam(0.01))
    expected = [[t.tag_ for t in doc] for doc in nlp.pipe(TEXTS)]
    nlp.replace_listeners("transformer", "tagger", ["model.tok2vec"])
    nlp.remove_pipe("ner")
    nlp.remove_pipe("transformer")
    assert [[t.tag_ for t in doc] for doc in nlp.pipe(TEXTS)] == expected
    nlp.to_disk(tmp_path / "alone")
    loaded = spacy.load(tmp_path / "alone")
    assert [[t.tag_ for t in doc] for doc in loaded.pipe(TEXTS)] == expected


def test_a_transformer_without_listeners_is_left_alone(tiny):
    nlp = spacy.blank("en")
    nlp.add_pipe("trfnb_transformer", config={"model": {"name": str(tiny)}})
    nlp.initialize()
    before = nlp.to_bytes()
    nlp.update([Example.from_dict(nlp.make_doc("a"), {})], sgd=Adam(0.1, L2=1.0))
    assert nlp.to_bytes() == before


def test_what_another_library_left_on_a_doc_is_replaced(tiny):
    nlp = initialized(transformer_pipeline(tiny))
    doc = nlp.make_doc("the river")
    doc._.trf_data = object()  # spacy-transformers keeps its own kind of record there
    doc = nlp.get_pipe("transformer")(doc)
    assert trfnb.token_vectors(doc).shape == (2, 16)


@pytest.fixture
def reached(monkeypatch):
    """Collect the highest layer of every forward pass."""
    from trfnb.flow.packed import PackedBert

    states, highest = PackedBert.states, []

    def watched(self, pack, layers, *rest, **options):
        highest.append(max(layers))
        return states(self, pack, layers, *rest, **options)

    monkeypatch.setattr(PackedBert, "states", watched)
    return highest


@pytest.mark.parametrize("storage", ["keep", "none"])
def test_nothing_is_computed_above_what_listeners_read(tiny, reached, storage):
    settings = {"tagger": {"layer": 1}, "ner": {"layer": 2}}
    whole, nlp = (transformer_pipeline(tiny, **settings) for _ in range(2))
    nlp.from_bytes(whole.to_bytes())
    whole.get_pipe("transformer").model.attrs["kept"] = [-1]
    nlp.get_pipe("transformer").storage = storage
    for loaded in (whole, nlp):
        loaded("plans")  # the first pass compares with the whole model
    reached.clear()
    found = list(zip(nlp.pipe(TEXTS), whole.pipe(TEXTS), strict=True))
    assert set(reached) == {2, 3}
    assert all(a.to_json() == b.to_json() for a, b in found)
    reached.clear()
    for loaded in (whole, nlp):
        loaded.update(examples(loaded), sgd=Adam(0.01))
    assert reached == [3, 2]
    if storage == "keep":
        with pytest.raises(ValueError, match=r"Layer -1 of 3 was not kept; kept: \[1, 2\]"):
            trfnb.token_vectors(found[0][0])


def test_a_setter_may_read_the_last_layer(tiny, reached):
    nlp = transformer_pipeline(tiny, tagger={"layer": 1}, ner={"layer": 1})
    nlp("the river")
    nlp.get_pipe("transformer").annotation_setter = lambda docs, batch: batch.layer(-1)
    nlp("the river")
    assert reached[-2:] == [1, 3]


def test_equal_texts_are_encoded_once(tiny, monkeypatch):
    from trfnb.flow.packed import PackedBert

    nlp = transformer_pipeline(tiny)
    expected = [trfnb.token_vectors(nlp(text)) for text in TEXTS]
    states, read = PackedBert.states, []

    def watched(self, pack, *rest, **options):
        read.append(sum(count for count, _ in pack.runs))
        return states(self, pack, *rest, **options)

    monkeypatch.setattr(PackedBert, "states", watched)
    found = [trfnb.token_vectors(doc) for doc in nlp.pipe([*TEXTS, *TEXTS[::-1], *TEXTS])]
    assert sum(read) == len({text for text in TEXTS if text})
    for a, b in zip([*expected, *expected[::-1], *expected], found, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-5)


def test_averages_take_the_place_of_the_encoders_weights_for_a_while(tiny):
    nlp, optimizer = transformer_pipeline(tiny), Adam(0.01, use_averages=True)
    for _ in range(3):
        nlp.update(examples(nlp), sgd=optimizer)
    nlp.get_pipe("transformer").finish_update(optimizer)
    (node,) = encoders(nlp.get_pipe("transformer").model)
    shim = node.shims[0]
    own = {name: p.detach().clone() for name, p in shim.loaded().named_parameters()}
    before = trfnb.token_vectors(nlp(TEXTS[0]))
    with nlp.use_params(optimizer.averages):
        for name, parameter in shim.loaded().named_parameters():
            average = optimizer.averages.get((shim.id, name), own[name])
            np.testing.assert_array_equal(parameter.detach(), average)
        assert np.abs(trfnb.token_vectors(nlp(TEXTS[0])) - before).max() > 1e-4
    for name, parameter in shim.loaded().named_parameters():
        assert torch.equal(parameter, own[name])
    np.testing.assert_array_equal(trfnb.token_vectors(nlp(TEXTS[0])), before)


def test_the_engine_of_a_loaded_pipeline(tiny, tmp_path):
    pytest.importorskip("openvino")
    nlp = transformer_pipeline(tiny)
    transformer, texts = nlp.get_pipe("transformer"), [*TEXTS, "the river bank plans " * 20]
    assert transformer.engine == "auto"
    with pytest.warns(UserWarning, match="reads fewer wordpieces"):
        by_torch = [trfnb.token_vectors(doc) for doc in nlp.pipe(texts)]
    assert transformer.engine_report.startswith("torch over packs (too little to encode")
    transformer.engine = "openvino"
    for doc, expected in zip(nlp.pipe(texts), by_torch, strict=True):
        np.testing.assert_allclose(trfnb.token_vectors(doc), expected, atol=1e-4)
    assert transformer.engine_report == 'OpenVINO in fp32 (engine = "openvino")'
    with pytest.raises(
        ValueError, match=r"engine\n  Input should be 'torch', .* input_value='onnx'"
    ):
        transformer.engine = "onnx"
    # It holds for this process; a saved pipeline starts with what its config says.
    nlp.to_disk(tmp_path / "as configured")
    nlp.get_pipe_config("transformer")["model"]["engine"] = "torch"
    nlp.to_disk(tmp_path / "changed")
    for name, engine in (("as configured", "auto"), ("changed", "torch")):
        assert spacy.load(tmp_path / name).get_pipe("transformer").engine == engine


def test_the_engine_of_a_task_with_a_transformer_of_its_own(tiny):
    pytest.importorskip("openvino")
    nlp = transformer_pipeline(tiny)
    nlp.replace_listeners("transformer", "tagger", ["model.tok2vec"])
    model, docs = nlp.get_pipe("tagger").model, [nlp.make_doc(text) for text in TEXTS]
    by_torch = model.predict(docs)
    set_runtime(model, engine="openvino")
    for found, expected in zip(model.predict(docs), by_torch, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert engine_report(model) == 'OpenVINO in fp32 (engine = "openvino")'
    assert nlp.get_pipe("transformer").engine == "auto"
