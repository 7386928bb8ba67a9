"""Pipelines that travel: to disk without network or source, to processes, as bytes and copies."""

import copy
import io
import pickle
import shutil
import socket
import warnings

import numpy as np
import pytest
import spacy
import srsly
import torch
from safetensors.torch import load, save
from small_pipelines import LISTENER, examples, initialized, transformer_pipeline
from spacy.tokens import Doc, DocBin
from thinc.api import Adam
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

import trfnb
from trfnb.flow.encoder import EncoderShim, set_runtime
from trfnb.flow.listener import TransformerListener
from trfnb.flow.packed import PackedBert
from trfnb.flow.runtime import Runtime
from trfnb.pipe.manifest import NOTE

FORMAT = {"format": "pt"}
TEXTS = ["Paris meets April in the bank .", "the river", "", "  ", "unable plans of the river bank"]


def train(nlp, steps=2, rate=0.01):
    optimizer = Adam(rate)
    for _ in range(steps):
        nlp.update(examples(nlp), sgd=False)
        for _, pipe in nlp.pipeline:
            if hasattr(pipe, "finish_update"):
                pipe.finish_update(optimizer)
    return nlp


def predictions(nlp, **options):
    return [
        ([t.tag_ for t in doc], [(e.start, e.end, e.label_) for e in doc.ents])
        for doc in nlp.pipe(TEXTS, **options)
    ]


def shim(nlp, name="transformer"):
    return next(s for n in nlp.get_pipe(name).model.walk() for s in n.shims)


def parameters(nlp):
    return {k: v.detach().numpy().copy() for k, v in shim(nlp).loaded().named_parameters()}


def moved(before, after):
    return {name for name in before if (before[name] != after[name]).any()}


def test_loads_without_network_or_source(tiny, tmp_path, monkeypatch):
    source = shutil.copytree(tiny, tmp_path / "source")
    nlp = train(transformer_pipeline(source, tagger={"layer": 2}, ner={"layer": "mix"}))
    expected, vectors = predictions(nlp), trfnb.token_vectors(nlp(TEXTS[0]))
    nlp.to_disk(tmp_path / "saved")
    shutil.rmtree(source)

    def refuse(*args, **kwargs):
        raise AssertionError("opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    for kind in (AutoModel, AutoTokenizer):
        kind.from_pretrained(tmp_path / "saved/transformer/encoder")
    loaded = spacy.load(tmp_path / "saved")
    loaded.to_disk(tmp_path / "again")
    from_bytes = spacy.blank("en").from_config(loaded.config).from_bytes(loaded.to_bytes())
    for other in (loaded, spacy.load(tmp_path / "again"), from_bytes):
        assert predictions(other) == expected
        np.testing.assert_array_equal(trfnb.token_vectors(other(TEXTS[0])), vectors)
        train(other, 1)


def test_two_processes_equal_one(tiny):
    nlp = train(transformer_pipeline(tiny))
    torch.softmax(torch.rand(2000, 500), -1)  # starts torch's threads, which a fork loses
    one = list(nlp.pipe(TEXTS))
    two = list(nlp.pipe(TEXTS, n_process=2, batch_size=2))
    for a, b in zip(one, two, strict=True):
        assert a.to_json() == b.to_json()
        np.testing.assert_allclose(trfnb.token_vectors(a), trfnb.token_vectors(b), atol=1e-5)


def test_copies(tiny):
    nlp = train(transformer_pipeline(tiny))
    expected = predictions(nlp)
    pickled = pickle.loads(pickle.dumps((nlp.config.to_str(), nlp.to_bytes())))
    config = spacy.util.load_config_from_str(pickled[0])
    assert predictions(spacy.blank("en").from_config(config).from_bytes(pickled[1])) == expected
    copied = copy.deepcopy(nlp)
    before = parameters(nlp)
    assert predictions(copied) == expected
    train(copied)
    assert predictions(nlp) == expected
    assert not moved(before, parameters(nlp)), "a copy's training must not move the original"
    assert moved(before, parameters(copied))


def test_doc_bin_keeps_the_output(tiny):
    nlp = transformer_pipeline(tiny)
    docs = list(nlp.pipe(TEXTS))
    stored = DocBin(docs=docs, store_user_data=True).to_bytes()
    for before, after in zip(docs, DocBin().from_bytes(stored).get_docs(nlp.vocab), strict=True):
        np.testing.assert_array_equal(trfnb.token_vectors(before), trfnb.token_vectors(after))
        assert before._.trf_data.wordpieces.strings == after._.trf_data.wordpieces.strings
    again = Doc(nlp.vocab).from_bytes(docs[0].to_bytes())
    np.testing.assert_array_equal(trfnb.token_vectors(docs[0]), trfnb.token_vectors(again))


def test_lora_learns_and_is_saved_as_an_adapter(tiny, tmp_path):
    pytest.importorskip("peft")
    lora = {"r": 2, "lora_alpha": 4, "target_modules": ["query", "value"], "lora_dropout": 0.0}
    nlp = transformer_pipeline(tiny, lora=lora)
    before = parameters(nlp)
    train(nlp, rate=0.05)
    assert moved(before, parameters(nlp))
    assert all("lora_" in name for name in moved(before, parameters(nlp)))
    expected = predictions(nlp)
    vectors = trfnb.token_vectors(nlp(TEXTS[0]))
    nlp.to_disk(tmp_path / "saved")
    assert (tmp_path / "saved/transformer/encoder/adapter/adapter_model.safetensors").exists()
    loaded = spacy.load(tmp_path / "saved")
    from_bytes = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    for other in (loaded, from_bytes):
        assert predictions(other) == expected
        np.testing.assert_allclose(trfnb.token_vectors(other(TEXTS[0])), vectors, atol=1e-6)
        start = parameters(other)
        train(other, rate=0.05)
        changed = moved(start, parameters(other))
        assert changed
        assert all("lora_" in name for name in changed)


def layers_that_move(nlp, steps=1):
    before = parameters(nlp)
    train(nlp, steps)
    names = moved(before, parameters(nlp))
    assert not any("pooler" in name for name in names)
    return {name.split(".")[2] if "layer." in name else "embeddings" for name in names}


@pytest.mark.parametrize(
    ("trainable", "expected"),
    [
        (None, {"0", "1", "2", "embeddings"}),
        (1, {"2"}),
        (2, {"1", "2"}),
        (4, {"0", "1", "2", "embeddings"}),
        (0, set()),
    ],
)
def test_only_upper_layers_learn(tiny, trainable, expected):
    assert layers_that_move(transformer_pipeline(tiny, trainable_layers=trainable)) == expected


def test_gradual_unfreezing(tiny):
    schedule = {"@schedules": "trfnb_test_unfreeze.v1"}
    spacy.registry.schedules.register("trfnb_test_unfreeze.v1", func=lambda: iter([0, 1, 2, 4]))
    nlp = transformer_pipeline(tiny, trainable_layers=schedule)
    seen = [layers_that_move(nlp) for _ in range(5)]
    everything = {"0", "1", "2", "embeddings"}
    assert seen == [set(), {"2"}, {"1", "2"}, everything, everything]


def test_mix_learns_and_is_saved(tiny, tmp_path):
    nlp = transformer_pipeline(tiny, tagger={"layer": "mix"})
    node = nlp.get_pipe("tagger").model.get_ref("tok2vec")
    assert not node.get_param("mix").any()
    train(nlp, 3)
    learned = node.get_param("mix").copy(), node.get_param("gamma").copy()
    assert np.abs(learned[0]).max() > 1e-3
    assert learned[1][0] != 1.0
    expected = predictions(nlp)
    nlp.to_disk(tmp_path / "saved")
    loaded = spacy.load(tmp_path / "saved")
    node = loaded.get_pipe("tagger").model.get_ref("tok2vec")
    np.testing.assert_array_equal(node.get_param("mix"), learned[0])
    np.testing.assert_array_equal(node.get_param("gamma"), learned[1])
    assert predictions(loaded) == expected


@pytest.mark.parametrize("storage", ["cpu", "last", "none"])
def test_storage_changes_no_prediction(tiny, storage, tmp_path):
    nlp = train(transformer_pipeline(tiny))
    expected = predictions(nlp)
    nlp.to_disk(tmp_path / "saved")
    config = {"components": {"transformer": {"storage": storage}}}
    loaded = spacy.load(tmp_path / "saved", config=config)
    assert predictions(loaded) == expected
    for doc in loaded.pipe(TEXTS):
        if storage == "none":
            assert doc._.trf_data is None
        else:
            assert doc._.trf_data.layer(-1).shape[1] == 16
    train(loaded)


def test_storage_none_holds_memory_flat(tiny):
    nlp = transformer_pipeline(tiny)
    nlp.get_pipe("transformer").storage = "none"
    kept = list(nlp.pipe(TEXTS * 20, batch_size=7))
    assert all(doc._.trf_data is None for doc in kept)
    alone = spacy.blank("en")
    alone.add_pipe("trfnb_transformer", config={"model": {"name": tiny}, "storage": "none"})
    alone.initialize()
    assert all(doc._.trf_data is None for doc in alone.pipe(TEXTS))


def test_storage_none_while_training_on_annotations(tiny):
    """A frozen hf_model's output must last as long as a component reads it."""
    nlp = transformer_pipeline(tiny)
    nlp.get_pipe("transformer").storage = "none"
    for _ in range(2):
        nlp.update(
            examples(nlp), sgd=False, exclude=["transformer"], annotates=["transformer", "tagger"]
        )
    assert predictions(nlp)


def test_out_of_memory_halves_the_batch(tiny, monkeypatch):
    nlp = transformer_pipeline(tiny)
    expected = [trfnb.token_vectors(doc) for doc in nlp.pipe(TEXTS * 3)]
    run, failures = PackedBert.states, []

    def fail_once(self, pack, *args, **options):
        if not failures:
            failures.append(pack)
            raise torch.OutOfMemoryError("out of memory")
        return run(self, pack, *args, **options)

    monkeypatch.setattr(PackedBert, "states", fail_once)
    with pytest.warns(RuntimeWarning, match="Out of memory at 1024 .* going on with 512") as caught:
        found = [trfnb.token_vectors(doc) for doc in nlp.pipe(TEXTS * 3)]
    assert len(caught) == 1
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(nlp.pipe(TEXTS))


def test_out_of_memory_where_a_pass_takes_a_multiple_of_what_is_set(tiny, monkeypatch):
    """As inference on a GPU does."""
    nlp = transformer_pipeline(tiny)
    transformer = nlp.get_pipe("transformer")
    set_runtime(transformer.model, max_batch_items=32)
    monkeypatch.setattr(Runtime, "items", lambda self, *_: 4 * self.max_batch_items)
    run, sizes = PackedBert.states, []

    def states(self, pack, *args, **options):
        sizes.append(len(pack.ids))
        if len(pack.ids) > 64:
            raise torch.OutOfMemoryError("out of memory")
        return run(self, pack, *args, **options)

    monkeypatch.setattr(PackedBert, "states", states)
    told = "Out of memory at 128 .* going on with 64. Set max_batch_items = 16 on"
    with pytest.warns(RuntimeWarning, match=told):
        list(nlp.pipe([" ".join(["unable"] * n) for n in range(8, 14)]))
    assert sum(size > 64 for size in sizes) == 1  # the pass that failed


def test_out_of_memory_without_a_way_out(tiny, monkeypatch):
    nlp = transformer_pipeline(tiny)

    def fail(*args, **options):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(PackedBert, "states", fail)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(torch.OutOfMemoryError):
            list(nlp.pipe(TEXTS))
    assert not [w for w in caught if "Out of memory" in str(w.message)]


def test_training_memory_is_flat(tiny):
    import gc

    nlp = transformer_pipeline(tiny, ner={"layer": "mix"})
    batch, optimizer = examples(nlp), Adam(0.001)
    counts = []
    gc.freeze()  # what is there already need not be looked at
    for _ in range(5):
        nlp.update(batch, sgd=False)
        for _, pipe in nlp.pipeline:
            pipe.finish_update(optimizer)
        gc.collect()
        counts.append(sum(issubclass(type(found), torch.Tensor) for found in gc.get_objects()))
    gc.unfreeze()
    assert len(set(counts[2:])) == 1, counts


def test_two_transformers_in_one_pipeline(tiny, tmp_path):
    nlp = spacy.blank("en")
    for name, layers in (("first", []), ("second", [1])):
        config = {"model": {"name": tiny, "layers": layers}}
        nlp.add_pipe("trfnb_transformer", name=name, config=config)
    for task, upstream in (("tagger", "first"), ("ner", "second")):
        listener = {**LISTENER, "upstream": upstream}
        nlp.add_pipe(task, config={"model": {"tok2vec": listener}})
    initialized(nlp)
    assert nlp.get_pipe("first").listening_components == ["tagger"]
    assert nlp.get_pipe("second").listening_components == ["ner"]
    train(nlp, rate=0.1)
    expected = predictions(nlp)
    nlp.to_disk(tmp_path / "saved")
    assert predictions(spacy.load(tmp_path / "saved")) == expected
    for storage in ("keep", "none"):
        for name in ("first", "second"):
            nlp.get_pipe(name).storage = storage
        assert predictions(nlp) == expected
        assert predictions(nlp, n_process=2, batch_size=2) == expected
        for doc in nlp.pipe(TEXTS):
            assert (doc._.trf_data is None) == (storage == "none")
    # Each task reads its own transformer, also where the other ran after it.
    nlp.get_pipe("first").storage = nlp.get_pipe("second").storage = "keep"
    doc = nlp(TEXTS[0])
    listener = nlp.get_pipe("tagger").model.get_ref("tok2vec")
    first = nlp.get_pipe("first")
    alone = first.predict([doc]).layer(-1)
    np.testing.assert_allclose(doc._.trf_data.of("first").layer(-1), alone, atol=1e-6)
    assert np.abs(doc._.trf_data.layer(-1) - alone).max() > 1e-2
    before = listener.predict([doc])[0]
    np.testing.assert_allclose(before, listener.predict([first(doc)])[0], atol=1e-6)


def test_rehearsing(tiny):
    nlp = train(transformer_pipeline(tiny))
    optimizer = nlp.resume_training()
    before = nlp.get_pipe("tagger").model.to_bytes()
    hf_model = parameters(nlp)
    train(nlp, 1)
    losses = nlp.rehearse(examples(nlp), sgd=optimizer)
    assert "tagger" in losses
    assert nlp.get_pipe("tagger").model.to_bytes() != before
    assert moved(hf_model, parameters(nlp))
    train(nlp, 1)


def test_other_processes_started_afresh_equal_one(tiny):
    """Where processes are not forked (macOS, Windows) the pipeline travels pickled."""
    nlp = train(transformer_pipeline(tiny))
    expected = predictions(nlp)
    assert predictions(pickle.loads(pickle.dumps(nlp))) == expected


def test_a_copy_made_after_an_update_listens_to_its_own_transformer(tiny):
    nlp = transformer_pipeline(tiny)
    optimizer = nlp.resume_training()
    nlp.update(examples(nlp), sgd=optimizer)
    copied = copy.deepcopy(nlp)
    for one in (nlp, copied):
        listener = next(
            n for n in one.get_pipe("ner").model.walk() if isinstance(n, TransformerListener)
        )
        assert listener.upstream() is one.get_pipe("transformer")
    assert predictions(copied) == predictions(nlp)


def test_bytes_hold_a_step_that_a_left_out_listener_delayed(tiny, tmp_path):
    nlp = transformer_pipeline(tiny)
    optimizer = nlp.resume_training()
    before = parameters(nlp)
    nlp.update(examples(nlp), sgd=optimizer, exclude=["ner"])
    predictions(nlp)
    assert moved(before, parameters(nlp)), "a prediction comes after the step"
    nlp.update(examples(nlp), sgd=optimizer, exclude=["ner"])
    nlp.to_disk(tmp_path / "disk")
    from_disk = spacy.load(tmp_path / "disk")
    from_bytes = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    assert not moved(parameters(from_bytes), parameters(from_disk))


def test_listeners_alone_after_an_update_of_all(tiny):
    nlp = transformer_pipeline(tiny)
    optimizer = nlp.resume_training()
    nlp.update(examples(nlp), sgd=optimizer)
    nlp.update(examples(nlp)[:2], sgd=optimizer, exclude=["transformer"])
    nlp.get_pipe("tagger").update(examples(nlp)[:1], sgd=optimizer)


def test_a_replaced_listener_keeps_its_schedule(tiny):
    warmup = {
        "@schedules": "warmup_linear.v1",
        "initial_rate": 1.0,
        "warmup_steps": 4,
        "total_steps": 5000,
    }
    nlp = transformer_pipeline(tiny, ner={"grad_factor": warmup})
    optimizer = nlp.resume_training()
    nlp.replace_listeners("transformer", "ner", ["model.tok2vec"])
    alone = next(n for n in nlp.get_pipe("ner").model.walk() if n.name == "tok2vec_transformer")
    for expected in (0.0, 0.25, 0.5):
        assert alone.attrs["factor"].now == pytest.approx(expected)
        nlp.update(examples(nlp), sgd=optimizer)


def test_a_mix_of_layers_stays_with_the_shared_transformer(tiny):
    nlp = transformer_pipeline(tiny, ner={"layer": "mix"})
    with pytest.raises(ValueError, match='layer = "mix", which only a shared'):
        nlp.replace_listeners("transformer", "ner", ["model.tok2vec"])


def rewritten(path, keep):
    path.write_bytes(save({k: v for k, v in load(path.read_bytes()).items() if keep(k)}, FORMAT))


DAMAGES = {
    "no folder": (lambda e: shutil.rmtree(e), "no .*encoder/config.json"),
    "no weights": (lambda e: (e / "model.safetensors").unlink(), "no .*model.safetensors"),
    "no tokenizer": (lambda e: (e / "tokenizer.json").unlink(), "tokenizer"),
    "no config": (lambda e: (e / "config.json").unlink(), "no .*config.json"),
    "a layer missing": (
        lambda e: rewritten(e / "model.safetensors", lambda name: "layer.2." not in name),
        "no tensor encoder.layer.2.attention.output.LayerNorm.bias, .* and 8 more",
    ),
    "cut": (
        lambda e: (e / "model.safetensors").write_bytes(
            (e / "model.safetensors").read_bytes()[:99]
        ),
        r"encoder': expected a local .* \(SafetensorError",
    ),
    "empty": (lambda e: (e / "model.safetensors").write_bytes(b""), r"\(SafetensorError"),
    "another size": (
        lambda e: (e / "config.json").write_text(
            (e / "config.json").read_text().replace('"vocab_size": ', '"vocab_size": 1')
        ),
        r"embeddings.word_embeddings.weight of size \(\d+, 16\) where config.json asks for",
    ),
}


@pytest.fixture(scope="module")
def saved(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "pipeline"
    transformer_pipeline(tiny).to_disk(folder)
    return folder


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_encoder_is_named_at_load(saved, tmp_path, name):
    damage, message = DAMAGES[name]
    damage(shutil.copytree(saved, tmp_path / "copy") / "transformer" / "encoder")
    with pytest.raises((OSError, ValueError), match=message):
        spacy.load(tmp_path / "copy")


def test_an_encoder_of_another_width_in_what_an_older_version_saved(saved, tmp_path):
    """Which did not note the files that belong together."""
    copy = shutil.copytree(saved, tmp_path / "copy") / "transformer"
    (tmp_path / "copy" / NOTE).unlink()
    config = BertConfig(vocab_size=200, hidden_size=8, num_hidden_layers=3, num_attention_heads=2)
    BertModel(config).save_pretrained(copy / "encoder")
    with pytest.raises(ValueError, match=r"expected an encoder of width 16, .* got one of width 8"):
        spacy.load(tmp_path / "copy")


def test_weights_of_spacy_transformers_as_zip_and_as_safetensors(tiny):
    nlp = transformer_pipeline(tiny)
    own, state = shim(nlp), io.BytesIO()
    files = srsly.msgpack_loads(own.to_bytes())["files"]
    torch.save(own.loaded().state_dict(), state)
    there = {
        "config": own.config.to_dict(),
        "tokenizer": {name: files[name] for name in files if name.startswith("tokenizer")},
    }
    for weights in (state.getvalue(), files["model.safetensors"]):
        restored = EncoderShim("there").from_bytes(srsly.msgpack_dumps({**there, "state": weights}))
        for name, one in own.loaded().state_dict().items():
            assert torch.equal(restored.loaded().state_dict()[name], one)
