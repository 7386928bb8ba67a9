from dataclasses import replace

import pytest
import spacy
from tiny_corpus import SMALL, TinyCorpus

from trfnb.experiments.configs import build_config
from trfnb.experiments.measures import main_scores, measure, moved_scores, starved
from trfnb.experiments.training import initialize, train

TASKS = ["tagger", "parser", "ner"]


@pytest.fixture(scope="module")
def trained(corpus):
    return {
        sharing: train(
            build_config(TASKS, sharing=sharing, max_steps=40, eval_frequency=10, **SMALL),
            corpus,
            progress=False,
        )
        for sharing in ("shared", "independent")
    }


def test_a_component_with_its_own_encoder_moves_and_a_listener_does_not(trained, corpus):
    scores = {}
    for sharing, run in trained.items():
        host_config = build_config(TASKS, sharing=sharing, seed=7, **SMALL)
        host = initialize(host_config, lambda vocab: corpus.examples("train", vocab))
        scores[sharing] = moved_scores(run.nlp, host, "ner", corpus)
    assert scores["independent"]["moved"] == scores["independent"]["at_home"] > 0.7
    assert scores["shared"]["moved"] < scores["shared"]["at_home"] - 0.2


def test_measure_gives_every_cost_and_each_tasks_score(trained):
    found = measure(trained["shared"])
    costs = ["parameters", "disk_mb", "train_words_per_second", "words_per_second"]
    assert list(found) == [*costs, "train_seconds", "tag_acc", "dep_las", "ents_f"]
    assert all(value > 0 for value in found.values())
    timed = trained["shared"].history.iloc[3:]
    assert found["train_words_per_second"] == (timed["words"] / timed["seconds"]).median()
    assert found["words_per_second"] == trained["shared"].history["speed"].median()
    alone = measure(trained["independent"])
    extra = alone["parameters"] - found["parameters"]
    assert alone["disk_mb"] - found["disk_mb"] == pytest.approx(extra * 4 / 1e6, rel=0.2)


def test_main_scores_are_the_factorys_for_other_components():
    nlp = spacy.blank("en")
    for name in ("morphologizer", "trainable_lemmatizer", "senter", "textcat_multilabel"):
        nlp.add_pipe(name)
    nlp.add_pipe("spancat", config={"spans_key": "parts"})
    nlp.add_pipe("parser", name="trees")
    nlp.add_pipe("sentencizer")
    assert main_scores(nlp) == {
        "morphologizer": "pos_acc",
        "trainable_lemmatizer": "lemma_acc",
        "senter": "sents_f",
        "textcat_multilabel": "cats_score",
        "spancat": "spans_parts_f",
        "trees": "dep_las",
    }


def test_a_training_too_short_is_told(trained, corpus):
    run = trained["shared"]
    steady = run.history.assign(tag_acc=1.0, dep_las=1.0, ents_f=1.0)
    good = {"tag_acc": 0.9, "dep_las": 0.9, "ents_f": 0.9}
    assert starved(replace(run, history=steady, scores=good), corpus) == []
    rising = steady.assign(tag_acc=steady["step"] / 40)
    (told,) = starved(replace(run, history=rising, scores=good), corpus)
    assert told.startswith("tagger: tag_acc on dev still rose by 0.250")
    falling = steady.assign(tag_acc=0.9 - steady["step"] / 50)
    (told,) = starved(replace(run, history=falling, scores=good), corpus)
    assert told.startswith("tagger: tag_acc on dev fell from 0.")
    assert told.endswith("give a lower rate.")
    bad = {"tag_acc": 2 / 6, "dep_las": 0.0, "ents_f": 0.9}  # two of six words are NNP
    told = starved(replace(run, history=steady, scores=bad), corpus)
    assert [line.split(":")[0] for line in told] == ["tagger", "parser"]
    assert "is not above 0.333, which the commonest label alone" in told[0]


def test_the_commonest_category_is_the_floor_of_a_category_score():
    corpus = TinyCorpus(train=40, dev=10)
    run = train(build_config(["textcat"], max_steps=1, **SMALL), corpus, progress=False)
    cats = [doc.cats for doc in corpus.docs("dev", run.nlp.vocab)]
    commonest = max(sum(cat[label] for cat in cats) for label in cats[0]) / 10
    floor = 2 * commonest / (1 + commonest) / 3
    told = starved(replace(run, scores={"cats_macro_f": floor}), corpus)
    assert told[-1].startswith(f"textcat: cats_macro_f {floor:.3f} is not above {floor:.3f}")
    assert not starved(replace(run, scores={"cats_macro_f": floor + 1e-6}), corpus)
