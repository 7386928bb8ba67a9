"""Corpora with annotation of different tasks become one, to train one shared encoder on."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from typing import Any

from trfnb.corpora.corpus import SPLITS, TASKS, Corpus, Sentence
from trfnb.corpora.loading import load

# Further layers that a task reads beside its own.
_BESIDE = {
    "pos": ("morphs",),
    "heads": ("deps",),
    "ents": ("unknown_ents",),
    "cats": ("open_cats",),
}
# What spaCy's other components skip, these take for a text in which there is nothing to find.
TAKE_MISSING_FOR_NONE = ("senter", "spancat", "textcat")


def join(
    sources: Mapping[str, Any],
    *,
    tasks: Mapping[str, Sequence[str]] | None = None,
    exponent: float = 1.0,
    seed: int = 0,
) -> Corpus:
    """Join corpora in which different tasks are annotated: tags here, names there.

    Each sentence keeps the annotation of its own corpus. What that lacks is missing, which is not
    the same as none: a component learns nothing from such a sentence and is not scored on it.

    Train is one epoch, drawn so that a corpus of n sentences has a share in proportion to
    ``n ** exponent``: the sentences of the largest corpus come once, those of a smaller one are
    repeated, all equally often but for a rest that comes once more. Exponents below 1 are used by
    Conneau et al., "Unsupervised Cross-lingual Representation Learning at Scale", 2020,
    https://doi.org/10.18653/v1/2020.acl-main.747.

    Args:
        sources: What to join, by name: a `Corpus`, or what `load` takes for a source.
        tasks: By name of a source, the components that are to learn from it, where it has other
            annotation that is to be left out, such as tags of another tag set. A source without
            an entry keeps what belongs to its ``tasks``.
        exponent: From 1, every sentence once, to 0, every corpus equally often.
        seed: Of the order of train, and of which sentences come once more.

    Returns:
        A corpus; dev and test hold each sentence of the sources once, those with heads first:
        spaCy's score of a parser takes the places of heads that one text lacks for places that
        all later texts lack. The language is ``"xx"`` where the sources have several.

    Raises:
        CorpusError: A source cannot be read.
        ValueError: There is nothing to join, the exponent is out of range, a source has no
            annotation for a task, or a component would take missing annotation for none; all such
            are named at once.
    """
    read = {name: s if isinstance(s, Corpus) else load(s) for name, s in sources.items()}
    chosen = {name: corpus.tasks for name, corpus in read.items()} | dict(tasks or {})
    if problems := list(_problems(read, chosen, exponent)):
        raise ValueError("Cannot join these corpora:\n- " + "\n- ".join(problems))
    parts = [_only(corpus, chosen[name]) for name, corpus in read.items()]
    rng, largest = random.Random(seed), max(len(part.train) for part in parts)
    train: list[Sentence] = []
    notes = []
    for name, part in zip(read, parts, strict=True):
        n = len(part.train)
        drawn = round(n**exponent * largest ** (1 - exponent))
        train += part.train * (drawn // n) + tuple(rng.sample(part.train, drawn % n))
        notes.append(f"{name}: {n} sentences, {drawn} in an epoch, for {', '.join(chosen[name])}.")
        notes += part.notes
    rng.shuffle(train)
    dev, test = (
        sorted((s for part in parts for s in getattr(part, split)), key=lambda s: s.heads is None)
        for split in ("dev", "test")
    )
    skipped = {f"{name}: {why}": n for name, c in read.items() for why, n in c.skipped.items()}
    langs = {corpus.lang for corpus in read.values()}
    lang = langs.pop() if len(langs) == 1 else "xx"
    name = " + ".join(read)
    return Corpus(name, tuple(train), tuple(dev), tuple(test), skipped, tuple(notes), lang)


def _problems(
    read: Mapping[str, Corpus], chosen: Mapping[str, Sequence[str]], exponent: float
) -> Iterator[str]:
    if not read:
        yield "sources: expected at least one corpus, got none"
    if not 0 <= exponent <= 1:
        yield f"exponent: expected 0 (equally often) to 1 (by size), got {exponent}"
    for name, tasks in chosen.items():
        if name not in read:
            yield f"tasks: expected names of {list(read)}, got {name!r}"
        elif not tasks or not {*map(_layer, tasks)} <= {*map(_layer, read[name].tasks)}:
            yield (
                f"{name}: expected annotation in train and dev for {list(tasks) or 'a task'}, got "
                f"that for {list(read[name].tasks) or 'none'}. Correct `tasks`, or the source"
            )
    for task in TAKE_MISSING_FOR_NONE:
        those = [name for name, tasks in chosen.items() if task in tasks]
        if those and len(those) < len(chosen):
            yield (
                f"{task}: only {those} have its annotation, and spaCy's {task} takes every other "
                f"text for one in which there is nothing to find. Give `tasks` for {those} "
                f"without it{' or with textcat_multilabel' * (task == 'textcat')}"
            )


def _layer(task: str) -> str | None:
    return TASKS.get(task.removesuffix("_multilabel"))


# Return the corpus with what these components learn from alone.
def _only(corpus: Corpus, tasks: Sequence[str]) -> Corpus:
    layers = {str(_layer(task)) for task in tasks}
    kept = {"sent_id", "doc_id"}.union(layers, *(_BESIDE.get(layer, ()) for layer in layers))
    lost = {
        f.name: f.default
        for f in fields(Sentence)
        if f.default is not MISSING and f.name not in kept
    }
    splits: dict[str, Any] = {
        split: tuple(replace(s, **lost) for s in getattr(corpus, split)) for split in SPLITS
    }
    return replace(corpus, **splits)
