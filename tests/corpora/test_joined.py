"""Corpora with annotation of different tasks: what an epoch holds, and what is left alone."""

import pickle
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import spacy
from spacy.vocab import Vocab
from tiny_corpus import SMALL, TinyCorpus, weights_of

from trfnb.corpora import CorpusError, join
from trfnb.corpora.corpus import Corpus, Sentence, from_doc
from trfnb.experiments.configs import build_config
from trfnb.experiments.training import initialize, train
from trfnb.registration import registry

NARROW = {
    "@architectures": "spacy.HashEmbedCNN.v2", "width": 8, "depth": 1, "embed_size": 50,
    "window_size": 1, "maxout_pieces": 2, "subword_features": True, "pretrained_vectors": None,
}  # fmt: skip
SIX = ("tagger", "morphologizer", "trainable_lemmatizer", "parser", "ner", "textcat_multilabel")


def made(name: str, n: int) -> Corpus:
    """n sentences in each split, with all annotation."""
    vocab = Vocab()
    docs = {split: TinyCorpus(n, n, n).docs(split, vocab) for split in ("train", "dev", "test")}
    splits = {
        split: tuple(
            replace(from_doc(doc), sent_id=f"{name} {split} {i}") for i, doc in enumerate(some)
        )
        for split, some in docs.items()
    }
    return Corpus(name, **splits)


LARGE, SMALLER = made("large", 16), made("small", 4)
# Of each task alone, beside a corpus of tags. The one that lacks the most comes first.
TASKS_OF = {task: {"tags": ["tagger"], "own": [task]} for task in SIX[1:]}
TASKS_OF["tagger"] = {"tags": ["ner"], "own": ["tagger"]}


def drawn(exponent: float, seed: int = 0, small: int = 4) -> list[str]:
    corpora = {"large": LARGE, "small": made("small", small)}
    tasks = {"large": ["tagger"], "small": ["ner"]}
    joined = join(corpora, tasks=tasks, exponent=exponent, seed=seed)
    assert len(joined.dev) == len(joined.test) == 16 + small, "each once"
    return [sentence.sent_id or "" for sentence in joined.train]


@pytest.mark.parametrize(
    ("exponent", "small", "times"),
    [
        (1, 4, {1: 4}),
        (0.5, 4, {2: 4}),
        (0, 4, {4: 4}),
        (0, 3, {5: 2, 6: 1}),
        (0.5, 3, {2: 2, 3: 1}),
    ],
)
def test_shares_follow_the_exponent(exponent: float, small: int, times: dict[int, int]) -> None:
    epoch = Counter(drawn(exponent, small=small))
    large = [n for name, n in epoch.items() if name.startswith("large")]
    repeated = [n for name, n in epoch.items() if name.startswith("small")]
    assert large == [1] * 16
    assert Counter(repeated) == times
    assert sum(repeated) == round(16 * (small / 16) ** exponent)


def test_an_epoch_is_mixed_and_the_seed_alone_decides_it() -> None:
    epoch = drawn(0.3, small=3)
    assert epoch == drawn(0.3, small=3)
    assert epoch != drawn(0.3, seed=1, small=3)
    kinds = [name.split()[0] for name in epoch]
    assert sum(a != b for a, b in pairwise(kinds)) > 4


def test_a_sentence_keeps_its_own_annotation_alone() -> None:
    tasks = {"large": ["tagger", "parser"], "small": ["ner", "textcat"]}
    with pytest.raises(ValueError, match="textcat_multilabel"):
        join({"large": LARGE, "small": SMALLER}, tasks=tasks)
    tasks["small"][1] = "textcat_multilabel"
    joined = join({"large": LARGE, "small": SMALLER}, tasks=tasks)
    assert joined.tasks == ("tagger", "parser", "ner", "textcat_multilabel")
    given = {s.sent_id: s for s in (*LARGE.dev, *SMALLER.dev)}
    bare = Sentence(words=(), spaces=())
    for sentence in joined.dev:
        whole = given[sentence.sent_id]
        same = ("words", "spaces", "sent_id", "doc_id")
        tree, found = ("tags", "heads", "deps"), ("ents", "unknown_ents", "cats", "open_cats")
        same += tree if whole in LARGE.dev else found
        for field in sentence.__dataclass_fields__:
            assert getattr(sentence, field) == getattr(whole if field in same else bare, field)
    assert join({"one": LARGE}).dev == LARGE.dev


@pytest.mark.parametrize("task", SIX)
def test_what_is_missing_is_neither_learnt_nor_scored(task: str) -> None:
    joined = join({"tags": SMALLER, "own": LARGE}, tasks=TASKS_OF[task])
    nlp = spacy.blank("en")
    rare = {"min_action_freq": 1} if task == "parser" else {}
    pipe = nlp.add_pipe(task, config={"model": {"tok2vec": NARROW}, **rare})
    nlp.initialize(lambda: joined.examples("train", nlp.vocab))
    foreign = replace(joined, train=tuple(s for s in joined.train if s.sent_id[:5] == "small"))
    assert len(foreign.train) == 4
    losses: dict[str, float] = {}
    pipe.update(foreign.examples("train", nlp.vocab), losses=losses)
    assert losses == {task: 0.0}
    parameters = [(node, name) for node in pipe.model.walk() for name in node.param_names]
    grads = [node.get_grad(name) for node, name in parameters if node.has_grad(name)]
    assert all(not np.any(grad) for grad in grads)
    pipe.update(joined.examples("train", nlp.vocab), losses=losses)
    assert losses[task] > 0

    alone = nlp.evaluate(join({"own": LARGE}, tasks={"own": [task]}).examples("dev", nlp.vocab))
    both = nlp.evaluate(joined.examples("dev", nlp.vocab))
    assert {**both, "speed": 0} == {**alone, "speed": 0}


@pytest.mark.parametrize("task", ["senter", "textcat", "spancat"])
def test_a_component_that_would_learn_that_there_is_nothing_is_refused(task: str) -> None:
    starts = (1, -1, -1, 1, -1, -1)  # two sentences
    layers = {"senter": {"sent_starts": starts}, "spancat": {"spans": {"sc": ((0, 1, "A"),)}}}
    texts = [replace(s, heads=None, deps=None, spans=None) for s in LARGE.train]
    own = tuple(replace(s, **layers.get(task, {})) for s in texts)
    corpora = {"own": Corpus("own", own, own), "other": SMALLER}
    tasks = {"own": [task], "other": ["tagger"]}
    with pytest.raises(ValueError, match=f"{task}: only .'own'. have its annotation"):
        join(corpora, tasks=tasks)
    assert task in join({"own": corpora["own"]}).tasks
    # It is so: the same sentences without the annotation cost something.
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe(task, config={"model": {"tok2vec": NARROW}})
    nlp.initialize(lambda: corpora["own"].examples("train", nlp.vocab))
    foreign = join({"other": SMALLER}, tasks={"other": ["tagger"]})
    losses = pipe.update(foreign.examples("train", nlp.vocab), losses={})
    assert losses[task] > 0


def test_every_task_reaches_the_shared_encoder_from_its_own_sentences() -> None:
    config = build_config(["tagger", "ner"], "tok2vec", dropout=0.0, **SMALL)
    joined = join({"tags": LARGE, "names": SMALLER}, tasks={"tags": ["tagger"], "names": ["ner"]})
    nlp = initialize(config, lambda vocab: joined.examples("train", vocab))
    before = weights_of(nlp)
    examples = joined.examples("train", nlp.vocab)
    sgd = nlp.create_optimizer()
    nlp.update([eg for eg in examples if eg.reference.has_annotation("TAG")], sgd=False)
    for _, pipe in nlp.pipeline:  # as spaCy's loop does
        pipe.finish_update(sgd)
    moved = {key[0] for key, value in weights_of(nlp).items() if (value != before[key]).any()}
    assert moved == {"tok2vec", "tagger"}, "the entity recogniser comes last, and is left alone"


def test_training_scores_each_task() -> None:
    config = build_config(["tagger", "parser", "ner"], "tok2vec", max_steps=4, **SMALL)
    tasks = {"names": ["ner"], "trees": ["tagger", "parser"]}
    joined = join({"names": SMALLER, "trees": LARGE}, tasks=tasks, exponent=0)
    scores = train(config, joined, progress=False).scores
    for metric in ("tag_acc", "dep_las", "ents_f"):
        assert 0 <= scores[metric] <= 1


def test_spacys_own_training_reads_joined_corpora(tmp_path) -> None:
    for corpus in (LARGE, SMALLER):
        corpus.save(tmp_path / corpus.name)
    block = {
        "@readers": "trfnb.JoinedCorpus.v1",
        "sources": {name: str(tmp_path / name) for name in ("large", "small")},
        "tasks": {"large": ["tagger"], "small": ["ner"]},
        "exponent": 0.5,
    }
    nlp = spacy.blank("en")
    reader = pickle.loads(pickle.dumps(registry.resolve({"train": block})["train"]))
    docs = [example.reference for example in reader(nlp)]
    assert sum(doc.has_annotation("TAG") for doc in docs) == 16
    assert sum(doc.has_annotation("ENT_IOB") for doc in docs) == 8
    block["split"] = "dev"
    assert len(registry.resolve({"dev": block})["dev"](nlp)) == 20


def test_what_was_read_is_told() -> None:
    german = replace(SMALLER, lang="de", skipped={"no words": 2}, notes=("Something was assumed.",))
    joined = join(
        {"a": LARGE, "b": german}, tasks={"a": ["ner"], "b": ["tagger", "ner"]}, exponent=0
    )
    assert (joined.name, joined.lang) == ("a + b", "xx")
    assert joined.skipped == {"b: no words": 2}
    assert joined.notes == (
        "a: 16 sentences, 16 in an epoch, for ner.",
        "b: 4 sentences, 16 in an epoch, for tagger, ner.",
        "Something was assumed.",
    )


def test_all_that_is_wrong_is_told_at_once() -> None:
    bare = Corpus("bare", *[tuple(Sentence(s.words, s.spaces) for s in LARGE.dev)] * 2)
    tasks = {"a": ["ner", "spotter"], "c": ["ner"]}
    with pytest.raises(ValueError, match="Cannot join") as error:
        join({"a": LARGE, "b": bare}, tasks=tasks, exponent=1.5)
    text = str(error.value)
    assert "exponent: expected 0 (equally often) to 1 (by size), got 1.5" in text
    assert "a: expected annotation in train and dev for ['ner', 'spotter']" in text
    assert "b: expected annotation in train and dev for a task, got that for none" in text
    assert "tasks: expected names of ['a', 'b'], got 'c'" in text
    with pytest.raises(ValueError, match="at least one corpus"):
        join({})
    with pytest.raises(CorpusError, match=r"nowhere\.conllu"):
        join({"a": "nowhere.conllu"})
