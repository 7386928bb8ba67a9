"""A name or a path becomes a Corpus."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from trfnb.corpora.categories import read_jsonl, read_splits
from trfnb.corpora.columns import read_columns
from trfnb.corpora.conllu import read_conllu
from trfnb.corpora.corpus import Corpus
from trfnb.corpora.errors import CorpusError, OnError, Problems
from trfnb.corpora.files import (
    CONLLU,
    DOCBIN,
    EMBEDDED,
    JSONL,
    SPLITS,
    corpus_files,
    embedded,
    split_of,
)
from trfnb.corpora.layers import join_layer
from trfnb.corpora.sentence import Sentence
from trfnb.corpora.splits import complete_cats, hold_out, sample, shuffled
from trfnb.corpora.treebanks import fetch, known

Splits = dict[str, list[Sentence]]


def load(
    source: str | Path = EMBEDDED,
    *,
    limit: int | None = None,
    dev_limit: int | None = None,
    seed: int = 0,
    layers: Sequence[str | Path] = (),
    column: int | str | None = None,
    lang: str = "en",
    dev_fraction: float = 0.1,
    split_seed: int = 0,
    on_error: OnError = "raise",
    on_mismatch: OnError = "skip",
) -> Corpus:
    """Read a corpus.

    Args:
        source: ``"newsroom"`` (comes with trfnb), the name of a public treebank
            (`trfnb.corpora.treebanks.known`; downloaded once), or a path: a ``.conllu``, column
            (``.conll``, ``.iob``, ``.iob2``, ``.bio``, ``.tsv``), ``.spacy``, ``.jsonl`` or
            ``.json`` file, or a folder of one such file or of a train and a dev file.
        limit: Train on so many sentences at most.
        dev_limit: Score on so many sentences at most.
        seed: Order of the training sentences, and which of them a limit leaves.
        layers: Paths of further annotation of the same sentences, joined by ``sent_id``.
        column: The label column of column files, where it is not found rightly by itself: an
            index from 0, or a name from the file's ``# global.columns``.
        lang: Language whose tokenizer splits raw texts, and of the pipeline to train.
        dev_fraction: Share to hold out where there is no dev file.
        split_seed: Chooses the held-out and the ``dev_limit`` sentences. Apart from ``seed``, so
            that runs with several seeds are scored on the same sentences.
        on_error: ``"raise"`` on a malformed sentence, or ``"skip"`` and count it.
        on_mismatch: ``"skip"`` and count a sentence that a layer lacks or tokenises otherwise, or
            ``"raise"``.

    Raises:
        CorpusError: input that cannot be used; names the file, the line and what to do.
        ValueError: an option out of range; all such are named at once.
    """
    _check(limit, dev_limit, dev_fraction, on_error, on_mismatch)
    problems, mismatches = Problems(on_error), Problems(on_mismatch)
    path = _locate(source)
    splits = _read(path, problems, column, lang)
    for layer in layers:
        read = _read(_locate(layer), problems, column, lang)
        merged = [sentence for split in read.values() for sentence in split]
        splits = join_layer(splits, merged, Path(layer).name, mismatches)
    if "dev" not in splits:
        train, dev = hold_out(splits["train"], dev_fraction, split_seed)
        splits = {"train": train, "dev": dev}
    empty = [name for name in ("train", "dev") if not splits[name]]
    skipped = Counter(problems.skipped) + mismatches.skipped
    if empty:
        raise CorpusError(
            path,
            expected="sentences to train on and to score on",
            got=f"none for {' and '.join(empty)} (skipped: {dict(skipped) or 'none'})",
            hint="Give more sentences, or correct those that were skipped",
        )
    train, dev = complete_cats(
        [
            shuffled(splits["train"], limit, seed),
            sample(splits["dev"], dev_limit, split_seed),
        ]
    )
    name = str(source) if isinstance(source, str) and source in (EMBEDDED, *known()) else path.stem
    return Corpus(name, tuple(train), tuple(dev), dict(skipped), lang)


def _check(
    limit: int | None, dev_limit: int | None, fraction: float, on_error: str, on_mismatch: str
) -> None:
    wrong = [
        f"{name} must be None or at least 1, not {value!r}"
        for name, value in (("limit", limit), ("dev_limit", dev_limit))
        if value is not None and value < 1
    ]
    wrong += [
        f"{name} must be 'raise' or 'skip', not {value!r}"
        for name, value in (("on_error", on_error), ("on_mismatch", on_mismatch))
        if value not in ("raise", "skip")
    ]
    if not 0 < fraction < 1:
        wrong.append(f"dev_fraction must lie between 0 and 1, not {fraction!r}")
    if wrong:
        raise ValueError(f"load: {'; '.join(wrong)}.")


def _locate(source: str | Path) -> Path:
    if source == EMBEDDED:
        return embedded()
    if isinstance(source, str) and source in known():
        return fetch(source)
    path = Path(source).expanduser()
    if not path.exists() and path.name == str(source) and not path.suffix:
        raise CorpusError(
            str(source),
            expected=f"a path, or one of {', '.join((EMBEDDED, *known()))}",
            got="neither",
            hint="Check the spelling",
        )
    return path


def _read(path: Path, problems: Problems, column: int | str | None, lang: str) -> Splits:
    files = corpus_files(path)
    if list(files) == [""] and files[""].suffix.lower() == SPLITS:
        return _named_splits(files[""], problems, lang)
    splits = {
        split or "train": _read_file(file, problems, column, lang) for split, file in files.items()
    }
    for split, file in files.items():
        if not splits[split or "train"] and not problems.skipped:
            raise CorpusError(
                file, expected="annotated sentences", got="none", hint="Check the file's format"
            )
    return splits


def _read_file(
    path: Path, problems: Problems, column: int | str | None, lang: str
) -> list[Sentence]:
    suffix = path.suffix.lower()
    if suffix == CONLLU:
        return read_conllu(path, problems)
    if suffix == DOCBIN:
        from trfnb.corpora.docs import read_docbin

        return read_docbin(path, problems)
    if suffix == JSONL:
        return read_jsonl(path, problems, lang)
    if suffix == SPLITS:
        return [s for split in read_splits(path, problems, lang).values() for s in split]
    return read_columns(path, problems, column)


def _named_splits(path: Path, problems: Problems, lang: str) -> Splits:
    splits: Splits = {}
    for name, sentences in read_splits(path, problems, lang).items():
        split = split_of(name)
        if split in ("train", "dev"):
            splits.setdefault(split, []).extend(sentences)
        else:
            problems.skipped[f"split {name!r} is neither train nor dev"] += len(sentences)
    if "train" not in splits:
        raise CorpusError(
            path,
            expected="a split with 'train' in its name",
            got="no such split",
            hint="Name one of the splits so",
        )
    return splits
