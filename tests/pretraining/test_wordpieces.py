"""A transformer learns on: wordpieces, and the result in all its forms."""

import numpy as np
import pytest
from small_runs import CHARACTERS, config
from spacy.util import load_model_from_config
from thinc.api import fix_random_seed

from trfnb.flow.encoder import EncoderShim
from trfnb.flow.wordpieces import encode
from trfnb.pretraining import load_weights, pretrain
from trfnb.pretraining.corruption import Replacement
from trfnb.pretraining.errors import PretrainingError
from trfnb.pretraining.masking import random_mask, whole_word_mask
from trfnb.pretraining.wordpiece_masks import hide_wordpieces, wordpiece_groups

WORDPIECES = {"@architectures": "trfnb.PretrainWordpieces.v1"}


@pytest.fixture
def given(lines, tiny):
    made = config(lines, WORDPIECES, max_steps=10)
    made["components"]["tok2vec"] = {
        "factory": "trfnb_transformer",
        "model": {"@architectures": "trfnb.TransformerModel.v1", "name": tiny},
    }
    made["pretraining"]["optimizer"] = {"@optimizers": "Adam.v1", "learn_rate": 0.005}
    return made


def wordpieces(tiny, *texts):
    shim = EncoderShim(tiny)
    shim.load()
    return shim.tokenizer, encode(shim.tokenizer, list(texts))


def test_wordpieces_are_grouped_by_word(tiny):
    _, found = wordpieces(tiny, "the bank unable", "paris, x")
    groups, content = wordpiece_groups(found)
    assert found.strings[0] == ["[CLS]", "the", "bank", "un", "##able", "[SEP]"]
    assert [one.tolist() for one in groups] == [[0, 1, 2, 2], [0, 0, 1]]
    assert content.tolist() == [0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0]


def test_special_tokens_are_never_hidden_and_words_are_hidden_whole(tiny):
    tokenizer, found = wordpieces(tiny, *["the bank unable in paris"] * 200)
    rng = np.random.default_rng(0)
    mask = tokenizer.mask_token_id
    ids, hidden = hide_wordpieces(found, whole_word_mask(0.3), Replacement(1, 0), mask, rng)
    assert (ids[hidden] == mask).all()
    assert (ids[~hidden] == found.ids[~hidden]).all()
    assert not np.isin(found.ids[hidden], tokenizer.all_special_ids).any()
    first = np.flatnonzero(found.ids == tokenizer.convert_tokens_to_ids("un"))
    assert (hidden[first] == hidden[first + 1]).all()
    _, single = hide_wordpieces(found, random_mask(0.3), Replacement(), mask, rng)
    assert (single[first] != single[first + 1]).any()


def test_the_result_opens_everywhere(given, tiny, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    path = pretrain(given, tmp_path / "out", progress=False)
    lines = (tmp_path / "out/log.csv").read_text().splitlines()
    assert float(lines[2].split(",")[4]) < float(lines[1].split(",")[4])
    folder = tmp_path / "out/model-last"
    body = AutoModel.from_pretrained(folder)
    AutoTokenizer.from_pretrained(folder)
    before = AutoModel.from_pretrained(tiny)
    changed = [
        not bool((a == b).all())
        for a, b in zip(body.parameters(), before.parameters(), strict=True)
    ]
    assert sum(changed) > len(changed) / 2
    by_file = fresh(given)
    by_file.config["initialize"]["init_tok2vec"] = str(path)
    by_file.initialize()
    by_name = fresh(given, name=str(folder))
    by_name.initialize()
    by_report = fresh(given)
    by_report.initialize()
    assert load_weights(by_report, folder).whole
    doc = by_name.make_doc("paris meets april in the bank")
    vectors = [
        nlp.get_pipe("tok2vec").model.predict([doc]).layer(-1)
        for nlp in (by_file, by_name, by_report)
    ]
    np.testing.assert_array_equal(vectors[0], vectors[1])
    np.testing.assert_array_equal(vectors[0], vectors[2])


def fresh(given, **model):
    copied = given.copy()
    copied["components"]["tok2vec"]["model"] |= model
    for name in ("pretraining_loop",):
        copied.pop(name)
    from trfnb.pretraining.setup import filled

    return load_model_from_config(filled(copied), auto_fill=True)


@pytest.mark.parametrize("layers", [None, "unfreezing"])
def test_resuming_a_transformer_ends_with_the_same_bytes(layers, given, tmp_path):
    if layers == "unfreezing":
        given["components"]["tok2vec"]["model"]["trainable_layers"] = {
            "@schedules": "compounding.v1", "start": 1.0, "stop": 3.0, "compound": 1.2
        }  # fmt: skip
    whole = pretrain(given, tmp_path / "whole", progress=False)
    part = given.copy()
    part["pretraining_loop"]["max_steps"] = 5
    pretrain(part, tmp_path / "part", progress=False)
    again = pretrain(given, tmp_path / "part", resume=True, progress=False)
    assert again.with_suffix("").joinpath("model.safetensors").read_bytes() == (
        whole.with_suffix("").joinpath("model.safetensors").read_bytes()
    )


def test_a_transformer_learns_characters_too(given, tmp_path):
    given["pretraining"]["objective"] = CHARACTERS
    pretrain(given, tmp_path / "out", progress=False)
    lines = (tmp_path / "out/log.csv").read_text().splitlines()
    assert float(lines[2].split(",")[4]) < float(lines[1].split(",")[4])


def test_parts_of_a_batch_add_up(given):
    from trfnb.pretraining.setup import set_up

    setup = set_up(given)
    model, nlp = setup.model, setup.nlp
    docs = [nlp.make_doc(t) for t in ("the bank plans", "paris meets april", "in the river")]
    shim = model.attrs["encoder"].shims[0]

    def gradient(share):
        fix_random_seed(1)
        model.attrs["share"] = share
        prediction, backprop = model.begin_update(docs)
        _, d = model.attrs["loss"](model.ops, docs, prediction)
        backprop(d)
        parts = [None if p.grad is None else p.grad.clone() for p in shim.loaded().parameters()]
        shim.loaded().zero_grad(set_to_none=True)
        return parts

    whole, *parts = (gradient(share) for share in ((0, 1), (0, 2), (1, 2)))
    for i, expected in enumerate(whole):
        found = [part[i] for part in parts if part[i] is not None]
        if expected is not None:
            np.testing.assert_allclose(sum(found), expected, atol=1e-5)


def test_a_transformer_of_another_size_is_refused(given, tmp_path, tiny):
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    pretrain(given, tmp_path / "out", progress=False)
    nlp = fresh(given)
    nlp.initialize()
    report = load_weights(nlp, tmp_path / "out/model-last.bin")
    assert report.whole
    assert len(report.loaded) > 20
    settings = AutoConfig.from_pretrained(tiny)
    settings.intermediate_size *= 2
    AutoModel.from_config(settings).save_pretrained(tmp_path / "wide")
    AutoTokenizer.from_pretrained(tiny).save_pretrained(tmp_path / "wide")
    other = fresh(given, name=str(tmp_path / "wide"))
    other.initialize()
    body = other.get_pipe("tok2vec").model
    before = body.to_bytes()
    for name in ("model-last.bin", "model-last"):
        with pytest.raises(PretrainingError, match=r"different: .*intermediate"):
            load_weights(other, tmp_path / "out" / name)
        assert body.to_bytes() == before
    report = load_weights(other, tmp_path / "out/model-last", partial=True)
    assert report.loaded
    assert all("intermediate" in one or "output" in one for one in report.different)
    theirs, ours = (
        dict(n.get_pipe("tok2vec").model.layers[0].shims[0].loaded().named_parameters())
        for n in (nlp, other)
    )
    for name, value in theirs.items():
        same = any(one.endswith(f".{name}") for one in report.loaded)
        assert (ours[name].shape == value.shape and bool((ours[name] == value).all())) == same


def test_a_body_of_words_is_refused(lines, tmp_path):
    with pytest.raises(PretrainingError, match="expected a transformer"):
        pretrain(config(lines, WORDPIECES), tmp_path / "out", progress=False)


def test_the_component_gets_its_pretrained_weights_from_a_callback(given, tmp_path):
    pretrain(given, tmp_path / "out", progress=False)
    nlp = fresh(given)
    nlp.config["initialize"]["after_init"] = {
        "@callbacks": "trfnb.LoadPretrained.v1",
        "path": str(tmp_path / "out/model-last"),
    }
    nlp.initialize()
    doc = nlp.make_doc("paris meets april")
    other = fresh(given, name=str(tmp_path / "out/model-last"))
    other.initialize()
    a, b = (n.get_pipe("tok2vec").model.predict([doc]).layer(-1) for n in (nlp, other))
    np.testing.assert_array_equal(a, b)
