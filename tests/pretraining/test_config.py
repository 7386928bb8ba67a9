from pathlib import Path

import numpy as np
import pytest
import spacy
from small_runs import TOK2VEC, config, text

from trfnb.pretraining import (
    PretrainingError,
    pretrain,
    pretraining_config,
    with_pretrained,
    write_text,
)
from trfnb.pretraining.config import OBJECTIVES


def pipeline():
    nlp = spacy.blank("en")
    nlp.add_pipe("tok2vec", config={"model": TOK2VEC})
    return nlp


def arrays(nlp):
    nodes = nlp.get_pipe("tok2vec").model.walk()
    return [node.get_param(name) for node in nodes for name in node.param_names]


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "distillation"])
def test_from_a_pipeline_to_its_pretrained_start(objective, lines, tmp_path):
    plain = pipeline().config
    made = pretraining_config(plain, lines, objective, batch_words=100, max_steps=3)
    weights = pretrain(made, tmp_path / "out", progress=False)
    nlp = spacy.util.load_model_from_config(with_pretrained(plain, weights))
    nlp.initialize()
    # All arrays; the file also keeps the dropout of pretraining, which is not taken over.
    other = pipeline()
    other.initialize()
    other.get_pipe("tok2vec").model.from_bytes(weights.read_bytes())
    for a, b in zip(arrays(nlp), arrays(other), strict=True):
        np.testing.assert_array_equal(a, b)
    assert with_pretrained(plain, None) == plain


def test_unknown_objectives_are_refused(lines):
    with pytest.raises(PretrainingError, match="characters, words, replaced"):
        pretraining_config(pipeline().config, lines, "rhymes")


def test_texts_are_written_one_a_line(tmp_path):
    nlp = spacy.blank("en")
    path = write_text([nlp.make_doc(text) for text in ("two\nlines", " ", "one")], tmp_path / "t")
    assert path.read_text() == "two lines\none\n"


def refused(given, folder, *said):
    with pytest.raises(PretrainingError) as caught:
        pretrain(given, folder / "out", progress=False)
    for one in said:
        assert one in str(caught.value)
    assert not (folder / "out").exists()


def test_all_bad_settings_are_named_at_once(lines, tmp_path):
    given = config(lines, steps=3, keep=0, shard_size="much", max_seconds=-1)
    given["pretraining"] |= {"max_epohcs": 3, "max_epochs": 0}
    refused(
        given,
        tmp_path,
        "steps",
        "keep",
        "shard_size",
        "max_seconds",
        "got max_epohcs",
        "max_epochs expected at least 1",
    )


@pytest.mark.parametrize(
    ("section", "changes", "said"),
    [
        ("pretraining", {"component": "ner"}, "that have a model (tok2vec), got 'ner'"),
        ("corpora.pretrain", {"path": "nowhere.txt"}, "no such path"),
        ("corpora.pretrain", {"min_length": 1000}, "got no batch"),
        ("pretraining", {"corpus": "corpora.novels"}, "got 'corpora.novels'"),
    ],
)
def test_what_cannot_be_pretrained_is_said_first(section, changes, said, lines, tmp_path):
    given = config(lines)
    block = given
    for name in section.split("."):
        block = block[name]
    block |= changes
    refused(given, tmp_path, said)


def test_patience_needs_a_dev_loss(tmp_path):
    refused(config(text(tmp_path, lines=5), patience=2), tmp_path, "dev_words", "patience to 0")


def test_a_config_for_both_commands_does_not_load_what_is_made_here(lines, tmp_path):
    given = config(lines, max_steps=4)
    plain = pretrain(given, tmp_path / "plain", progress=False).read_bytes()
    for name in ("nowhere.bin", str(tmp_path / "plain/model-last.bin")):
        given["initialize"] = {
            "init_tok2vec": name,
            "after_init": {"@callbacks": "trfnb.LoadPretrained.v1", "path": name},
        }
        out = tmp_path / Path(name).stem
        assert pretrain(given, out, progress=False).read_bytes() == plain
