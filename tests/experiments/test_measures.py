import pandas as pd
import pytest
import spacy

from trfnb.experiments import weights
from trfnb.experiments.measures import (
    disk_megabytes,
    inference_speed,
    measure,
    moved_scores,
    peak_memory,
    training_speed,
)

from trfnb.experiments.configs import build_config
from trfnb.experiments.training import initialize, train

SMALL = {"width": 24, "depth": 2, "embed_rows": 100, "batch_words": 60, "eval_frequency": 10}


@pytest.fixture(scope="module")
def trained(corpus):
    return {
        sharing: train(
            build_config(["tagger", "parser", "ner"], sharing=sharing, max_steps=40, **SMALL),
            corpus,
            progress=False,
        )
        for sharing in ("shared", "independent")
    }


def test_shared_weights_count_once(trained):
    shared, alone = trained["shared"].nlp, trained["independent"].nlp
    body = sum(value.size for (name, _, _), value in weights.arrays(shared) if name == "tok2vec")
    assert weights.count(alone) - weights.count(shared) == 2 * body
    assert disk_megabytes(alone) - disk_megabytes(shared) == pytest.approx(
        2 * body * 4 / 1e6, rel=0.2
    )


def test_a_snapshot_restores_and_refuses_another_pipeline(trained):
    nlp = trained["shared"].nlp
    saved = weights.snapshot(nlp)
    model = nlp.get_pipe("tagger").model.get_ref("softmax")
    model.set_param("W", model.get_param("W") + 1)
    weights.restore(nlp, saved)
    assert (
        model.get_param("W") == saved[next(k for k in saved if k[0] == "tagger" and k[2] == "W")]
    ).all()
    with pytest.raises(ValueError, match="Cannot restore"):
        weights.restore(trained["independent"].nlp, saved)


def test_training_speed_is_the_median_after_the_warm_up():
    history = pd.DataFrame({"words": [10, 10, 10, 10, 20, 10], "seconds": [9, 9, 9, 1, 1, 1]})
    assert training_speed(history) == 10
    assert training_speed(history.head(2)) == pytest.approx(10 / 9)


def test_inference_speed_counts_words_and_leaves_the_documents_alone(trained, corpus):
    nlp = spacy.blank("en")
    docs = corpus.docs("dev", nlp.vocab)
    before = [doc.to_bytes() for doc in docs]
    assert inference_speed(nlp, docs, repeats=2) > 1000
    assert [doc.to_bytes() for doc in docs] == before
    with pytest.raises(ValueError, match="no documents"):
        inference_speed(nlp, [])


@pytest.mark.slow
def test_peak_memory_sees_a_bigger_body(corpus):
    peaks = {}
    for rows in (100, 100_000):  # the four tables then hold about 60 MB
        config = build_config(["tagger"], **SMALL | {"embed_rows": rows, "width": 64})
        nlp = initialize(config, lambda vocab: corpus.examples("train", vocab))
        docs = corpus.docs("dev", nlp.vocab)
        peaks[rows] = {work: peak_memory(nlp, docs, work) for work in ("inference", "training")}
    for work in ("inference", "training"):
        grown = peaks[100_000][work]["over_libraries"] - peaks[100][work]["over_libraries"]
        assert grown > 40
    assert peaks[100_000]["training"]["peak"] > peaks[100_000]["inference"]["peak"]


def test_a_component_with_its_own_body_moves_and_a_listener_does_not(trained, corpus):
    scores = {}
    for sharing, run in trained.items():
        host_config = build_config(["tagger", "parser", "ner"], sharing=sharing, seed=7, **SMALL)
        host = initialize(host_config, lambda vocab: corpus.examples("train", vocab))
        examples = corpus.examples("dev", run.nlp.vocab)
        scores[sharing] = moved_scores(run.nlp, host, "ner", examples)
    assert scores["independent"]["moved"] == scores["independent"]["at_home"] > 0.7
    assert scores["shared"]["moved"] < scores["shared"]["at_home"] - 0.2


def test_measure_gives_every_cost_and_each_tasks_score(trained, corpus):
    found = measure(trained["shared"], corpus, memory=False)
    assert list(found) == [
        "parameters",
        "disk_mb",
        "train_words_per_second",
        "words_per_second",
        "train_seconds",
        "tag_acc",
        "dep_las",
        "ents_f",
    ]
    assert all(value > 0 for value in found.values())


def test_compare_has_a_row_a_run(corpus):
    options = {"max_steps": 2, **SMALL}
    runs = compare(
        corpus, tasks=["tagger"], seeds=(0, 1), options=options, memory=False, progress=False
    )
    assert runs[["sharing", "seed"]].to_numpy().tolist() == [
        [sharing, seed] for sharing in ("shared", "independent", "frozen") for seed in (0, 1)
    ]
    assert runs["tag_acc"].between(0, 1).all()
