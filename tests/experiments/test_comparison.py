import json

import pytest
import spacy
import typer
from spacy.tokens import DocBin
from tiny_corpus import SMALL, TinyCorpus, users_config
from typer.testing import CliRunner

from trfnb.experiments import compare, comparison, training
from trfnb.experiments.commands import add_commands
from trfnb.experiments.comparison import DocBinCorpus

HELD_OUT = TinyCorpus(train=40, dev=10, test=10)


@pytest.fixture(scope="module")
def found():
    return compare(
        HELD_OUT,
        tasks=["tagger", "ner"],
        seeds=3,
        budget="1200 words",
        options={**SMALL, "learn_rate": 0.01},
        progress=False,
    )


def test_every_way_and_seed_is_a_row_and_every_task_has_a_verdict(found):
    assert found.runs[["sharing", "seed"]].to_numpy().tolist() == [
        [way, seed] for seed in range(3) for way in ("shared", "independent", "frozen")
    ]
    assert found.split == "test"
    assert list(found.verdicts["metric"]) == ["tag_acc", "ents_f"]
    pairs = found.runs.pivot(index="seed", columns="sharing", values="tag_acc")
    gap = (pairs["independent"] - pairs["shared"]).mean()
    assert found.verdicts["mean"][0] == pytest.approx(gap)
    assert found.sentences()[:2] == list(found.verdicts["sentence"])
    assert {way: len(kept) for way, kept in found.histories.items()} == {
        "frozen": 3,
        "shared": 3,
        "independent": 3,
    }


@pytest.mark.parametrize("ended", [1, 3])
def test_ctrl_c_keeps_the_runs_made_so_far(ended, monkeypatch):
    trained = []

    def train(*arguments, **settings):
        if len(trained) == ended:
            raise KeyboardInterrupt
        trained.append(training.train(*arguments, **settings))
        return trained[-1]

    monkeypatch.setattr(comparison, "train", train)
    few = {"sharings": ["shared", "frozen"], "budget": "100 words", "progress": False}

    def compared():
        return compare(HELD_OUT, tasks=["tagger"], options=SMALL, **few)

    if ended == 1:  # there is nothing to compare
        with pytest.raises(KeyboardInterrupt):
            compared()
    else:
        found = compared()
        assert (len(found.runs), found.seeds) == (3, [0])
        assert "resampled sentences" in found.sentences()[0]
        assert found.setup.endswith("Stopped after 3 of 6 runs.")


def test_the_winner_is_saved_with_its_scores_and_a_card(found, tmp_path):
    folder = found.save(tmp_path / "winner")
    nlp = spacy.load(folder)
    best = found.runs[found.runs["sharing"] == found.winner].nlargest(1, "dev_score").iloc[0]
    scores = nlp.evaluate(HELD_OUT.examples("test", nlp.vocab))
    assert scores["tag_acc"] == pytest.approx(best["tag_acc"])
    performance = json.loads((folder / "meta.json").read_text())["performance"]
    assert performance == {name: best[name] for name in ("tag_acc", "ents_f")}
    card = (folder / "README.md").read_text()
    assert "Trained on a corpus, budget 1200 words per run. Scores are of the test split." in card
    assert "Means over seeds 0, 1, 2" in card
    assert all(sentence in card for sentence in found.sentences())
    assert "spacy package" in card


@pytest.mark.parametrize("other", ["independent", "frozen"])
def test_two_seeds_get_a_bootstrap_and_no_interval(other):
    found = compare(
        HELD_OUT,
        tasks=["tagger"],
        sharings=["shared", other],
        seeds=[4, 5],
        options={**SMALL, "max_steps": 3},
        progress=False,
    )
    (sentence,) = found.verdicts["sentence"]
    assert "at least 1 more" in sentence
    assert "resampled sentences give" in sentence
    assert "±" not in found.table().to_string()


OWN = """from spacy.language import Language
from spacy.pipeline import Tagger

@Language.factory("word_kinds", default_score_weights={"tag_acc": 1.0})
def make_word_kinds(nlp, name, model):
    return Tagger(nlp.vocab, model, name)
"""


@pytest.mark.slow
def test_the_command_compares_a_users_config_with_every_kind_of_component(tmp_path):
    HELD_OUT.save(tmp_path)
    assert DocBinCorpus(tmp_path).test
    spans = {"spans_key": "parts"}
    config = users_config(
        morphologizer={},
        trainable_lemmatizer={"min_tree_freq": 1},
        senter={},
        spancat=spans,
        span_finder=spans,
        textcat_multilabel={},
    )
    config["nlp"]["pipeline"].append("kinds")
    listener = dict(config["components"]["senter"]["model"]["tok2vec"])
    model = {"@architectures": "spacy.Tagger.v2", "nO": None, "tok2vec": listener}
    config["components"]["kinds"] = {"factory": "word_kinds", "model": model}
    config.to_disk(tmp_path / "my.cfg")
    (tmp_path / "own.py").write_text(OWN)
    app = typer.Typer()
    app.callback()(lambda: None)
    add_commands(app)
    arguments = ["compare", str(tmp_path / "my.cfg"), "--corpus", str(tmp_path)]
    arguments += ["--seeds", "1", "--budget", "480 words", "--out", str(tmp_path / "out")]
    arguments += ["--code", str(tmp_path / "own.py")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, f"{done.output} {done.exception}"
    for metric in ("pos_acc", "lemma_acc", "sents_f", "spans_parts_f", "cats_score", "tag_acc"):
        assert f"\n{metric}: cannot tell from 1 seed(s)" in done.output
    nlp = spacy.load(tmp_path / "out")
    doc = nlp("Ada won games in Oslo .")
    assert doc[0].pos_
    assert doc[0].tag_
    assert doc.cats


def test_a_config_in_memory_may_be_compared_by_its_own_limits(corpus):
    config = users_config(morphologizer={})
    config["training"]["max_steps"] = 3
    with pytest.raises(ValueError, match="at least one way of sharing, one seed and a margin"):
        compare(corpus, config=config, seeds=0)
    found = compare(corpus, config=config, sharings=["shared"], seeds=1, progress=False)
    assert len(found.histories["shared"][0]) == 3
    assert found.split == "dev"
    assert found.verdicts.empty
    assert found.best.pipe_names == ["tok2vec", "morphologizer"]


def test_a_task_without_annotation_is_not_called_starved_and_any_way_may_be_the_first(tmp_path):
    HELD_OUT.save(tmp_path)
    DocBin().to_disk(tmp_path / "test.spacy")
    docs = DocBin().from_disk(tmp_path / "dev.spacy").get_docs(spacy.blank("en").vocab)
    DocBin(attrs=["TAG"], docs=docs).to_disk(tmp_path / "dev.spacy")
    corpus = DocBinCorpus(tmp_path)
    assert not corpus.test
    config = users_config(tagger={}, ner={})
    config["training"] |= {"max_steps": 2, "score_weights": {"tag_acc": 1.0}}
    ways = ["tagger | ner", "frozen"]
    found = compare(corpus, config=config, sharings=ways, seeds=1, progress=False)
    assert found.asked.against == ways[0]
    assert found.split == "dev"
    assert "tagger | ner wins where" in found.choice()
    (told,) = (line for line in found.sentences() if "ents_f" in line)
    assert told.startswith("ents_f: not judged")
