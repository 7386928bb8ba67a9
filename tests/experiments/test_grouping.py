"""Affinity by lookahead: its numbers, the grouping that follows, and the config of that."""

import pandas as pd
import pytest
from tiny_corpus import SMALL, TinyCorpus, users_config

from trfnb.experiments.configs import build_config
from trfnb.experiments.grouping import affinity, best_groups
from trfnb.experiments.training import train
from trfnb.experiments.weights import fingerprint


def test_tasks_that_ask_for_the_same_are_found():
    """Tags and parts of speech are the same classes of words; both categories hang on the verb."""
    config = users_config(tagger={}, textcat={}, morphologizer={}, textcat_multilabel={})
    found = affinity(config, TinyCorpus(), budget="1800 words", every=5, progress=False)
    groups = best_groups(found, 2)
    assert sorted(map(sorted, groups)) == [
        ["morphologizer", "tagger"],
        ["textcat", "textcat_multilabel"],
    ]
    assert best_groups(found, 1) == [list(found["of"].unique())]
    own = found[found["of"] == found["on"]]
    assert own["affinity"].mean() > 0, "a task's own step helps it"


def test_looking_ahead_leaves_the_training_as_it_is(corpus):
    config = build_config(["tagger", "ner"], max_steps=12, eval_frequency=12, **SMALL)
    kept = []
    plain = train(config, corpus, progress=False)

    def training(*arguments, **settings):
        kept.append(train(*arguments, **settings))
        return kept[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trfnb.experiments.grouping.train", training)
        found = affinity(config, corpus, every=4, progress=False)
    assert fingerprint(kept[0].nlp) == fingerprint(plain.nlp)
    assert found["step"].unique().tolist() == [4, 8]
    assert len(found) == 2 * 2 * 2


def test_the_grouping_with_the_highest_affinity_is_found_among_all():
    pairs = {("a", "b"): 0.3, ("b", "a"): 0.1, ("a", "c"): -0.2, ("c", "a"): -0.3,
             ("b", "c"): 0.1, ("c", "b"): -0.5}  # fmt: skip
    table = pd.DataFrame(
        [{"of": of, "on": on, "affinity": value} for (of, on), value in pairs.items()]
        + [{"of": task, "on": task, "affinity": 1.0} for task in "abc"]
    )
    assert sorted(map(sorted, best_groups(table, 3))) == [["a", "b"], ["c"]]
    assert sorted(map(sorted, best_groups(table, 1))) == [["a", "b", "c"]]
