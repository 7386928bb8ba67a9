"""A name, a path or a dataset becomes a Corpus: files, splits, limits and layers."""

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, validate_call

from trfnb.corpora import records
from trfnb.corpora.columns import read_columns
from trfnb.corpora.conllu import read_conllu
from trfnb.corpora.corpus import (
    SPLITS,
    Column,
    Corpus,
    CorpusError,
    OnError,
    Reading,
    Sentence,
    from_span,
    read_docbin,
    to_doc,
)
from trfnb.corpora.treebanks import fetch, known

Splits = dict[str, list[Sentence]]

EMBEDDED = "newsroom"
READERS: dict[str, Callable[[str | Path, Reading], Any]] = {
    ".conllu": read_conllu,
    ".spacy": read_docbin,
    ".jsonl": records.read_json,
    ".json": records.read_json,
    ".csv": records.read_table,
    ".tsv": records.read_table,
    **dict.fromkeys((".conll", ".iob", ".iob2", ".bio", ".bioes", ".bilou", ".bmes"), read_columns),
}
_PACKED = re.compile(r"\.(gz|bz2|xz|zip|zst)$")
_NAMES = {
    "train": "train|training",
    "dev": "dev|devel|development|val|valid|validation|testa",
    "test": "test|testb|eval|evaluation",
}
# What a further annotation can bring, and what goes with it.
_LAYERS = (
    *(("tags",), ("pos",), ("morphs",), ("lemmas",), ("heads", "deps", "sent_starts")),
    *(("ents", "unknown_ents"), ("spans",), ("cats", "open_cats")),
)


@validate_call
def load(
    source: Any = EMBEDDED,
    *,
    split: tuple[PositiveFloat, PositiveFloat, NonNegativeFloat] | None = None,
    limit: PositiveInt | None = None,
    dev_limit: PositiveInt | None = None,
    test_limit: PositiveInt | None = None,
    seed: int = 0,
    layers: Sequence[str | Path] = (),
    column: Column | None = None,
    text_column: int | str | None = None,
    lang: str = "en",
    sentences_per_text: PositiveInt = 1,
    split_seed: int = 0,
    dev_as_test: bool = False,
    on_error: OnError = "raise",
    on_mismatch: OnError = "skip",
) -> Corpus:
    """Read a corpus.

    Three splits come from files, or parts of a file, with train, dev (devel, development, val,
    valid, validation) and test in their names. What is missing is held out of train, a tenth
    each: whole documents where the corpus marks them, else blocks of neighbouring sentences.

    Args:
        source: ``"newsroom"`` (comes with trfnb), the name of a public treebank
            (`trfnb.corpora.treebanks.known`; downloaded once), a HuggingFace dataset or a dict of
            such, or a path or URL, also of a compressed file: CoNLL-U (``.conllu``), columns of
            entity labels (``.conll``, ``.iob``, ``.bio``, ``.bmes``, …, see `read_columns`),
            ``.spacy``, texts with categories or spans (``.jsonl``, ``.json``, see `read_json`;
            ``.csv``, ``.tsv``, see `read_table`), or a folder of such files or of a saved dataset.
        split: Shares of train, dev and test, as (8, 1, 1): all sentences, whatever their files
            say, are put together and divided so.
        limit: Train on so many sentences at most.
        dev_limit: Choose on so many sentences at most.
        test_limit: Score on so many sentences at most.
        seed: Order of the training sentences, and which of them a limit leaves.
        layers: Paths of further annotation of the same sentences, joined by ``sent_id``.
        column: The label column of columns and tables, where it is not found rightly by itself:
            an index from 0, a name, or several.
        text_column: The text's column of a table, or its key in records.
        lang: Language whose tokenizer splits raw texts, and of the pipeline to train.
        sentences_per_text: Join so many neighbouring sentences of a document to one text: senter
            learns from texts of several sentences only.
        split_seed: Chooses the held-out and the limited dev and test sentences. Apart from
            ``seed``, so that runs with several seeds are scored on the same sentences.
        dev_as_test: Score on the dev file and hold dev out of train, for a corpus whose test
            file is kept aside.
        on_error: ``"raise"`` on a malformed sentence, or ``"skip"`` and count it.
        on_mismatch: ``"skip"`` and count a sentence that a layer lacks or tokenises otherwise, or
            ``"raise"``.

    Raises:
        CorpusError: input that cannot be used; names the file, the line and what to do.
        ValueError: an option out of range; all such are named at once.
    """
    limits = {"train": limit, "dev": dev_limit, "test": test_limit}
    reading = Reading(on_error, lang, column, text_column)
    mismatches = Reading(on_mismatch)
    name, splits = _read(source, reading)
    for layer in layers:
        layer_name, read = _read(layer, reading)
        merged = [sentence for sentences in read.values() for sentence in sentences]
        splits = join_layer(splits, merged, layer_name, mismatches)
    if sentences_per_text > 1:
        splits = {part: _joined(found, sentences_per_text) for part, found in splits.items()}
    if dev_as_test:
        splits["test"] = splits.pop("dev", []) + splits.get("test", [])
    splits = _three_splits(name, splits, split, split_seed, reading)
    skipped = dict(reading.skipped + mismatches.skipped)
    if empty := [part for part in ("train", "dev") if not splits[part]]:
        raise CorpusError(
            _place(source),
            expected="sentences to train on and to choose on",
            got=f"none for {' and '.join(empty)} (skipped: {skipped or 'none'})",
            hint="Give more sentences, or correct those that were skipped",
        )
    chosen = {part: _sample(splits[part], limits[part], split_seed) for part in ("dev", "test")}
    order = list(splits["train"])
    random.Random(seed).shuffle(order)
    train, dev, test = _complete_cats([order[:limit], chosen["dev"], chosen["test"]])
    return Corpus(name, train, dev, test, skipped, tuple(reading.notes), lang)


def embedded() -> Path:
    """Return the folder of the corpus that comes with trfnb."""
    inside = Path(__file__).parent / EMBEDDED  # in a wheel
    return inside if inside.is_dir() else Path(__file__).parents[2] / "data" / EMBEDDED


def split_of(name: str) -> str | None:
    """Return ``"train"``, ``"dev"`` or ``"test"`` if a file's or split's name says so."""
    for split, words in _NAMES.items():
        if re.search(rf"(^|[^a-z])({words})([^a-z]|$)", name.lower()):
            return split
    return None


def _read(source: Any, reading: Reading) -> tuple[str, Splits]:
    """Return a source's name and its sentences by split; what names no split is train's."""
    if not isinstance(source, str | Path | Mapping) and not hasattr(source, "features"):
        raise CorpusError(
            _place(source),
            expected="a name, a path or a HuggingFace dataset",
            got=repr(source)[:40],
            hint="Pass one of these",
        )
    if not isinstance(source, str | Path):
        name, read = _place(source), records.read_dataset(_place(source), source, reading)
    else:
        name, path = _locate(source)
        read = {}
        for part, file in _files(path, source).items():
            for key, sentences in _read_file(file, reading).items():
                read[part or key] = read.get(part or key, []) + sentences
    splits: Splits = defaultdict(list)
    for key, sentences in read.items():
        named = split_of(key) if key else "train"
        if named:
            splits[named] += sentences
            if not sentences and not reading.skipped:
                raise CorpusError(
                    _place(source),
                    expected="annotated sentences",
                    got=f"none for {named}",
                    hint="Check the file's format",
                )
        else:
            reading.skipped[f"split {key!r} is none of train, dev and test"] += len(sentences)
    if "train" not in splits:
        raise CorpusError(
            _place(source),
            expected="a split with 'train' in its name",
            got=f"no such split but {', '.join(read)}",
            hint="Name one of the splits so",
        )
    return name, splits


def _place(source: Any) -> str:
    return str(source) if isinstance(source, str | Path) else f"a {type(source).__name__}"


def _locate(source: str | Path) -> tuple[str, str | Path]:
    """Return a source's name, and its path or URL."""
    name = str(source)
    if name == EMBEDDED:
        return name, embedded()
    if name in known():
        return name, fetch(name)
    path = name if "://" in name else Path(source).expanduser()
    return Path(_PACKED.sub("", Path(source).name)).stem, path


def _files(path: str | Path, source: str | Path) -> dict[str, str | Path]:
    """Return a corpus' files by split; ``{"": file}`` where one file, or a dataset, holds all."""
    kinds = f"a file that ends in {', '.join(READERS)}"
    if isinstance(path, str) or path.is_file():
        if _suffix(path) in READERS:
            return {"": path}
        raise CorpusError(
            path, expected=kinds, got=repr(Path(path).suffix), hint="Rename or convert it"
        )
    if not path.is_dir():
        names = f", or one of {', '.join((EMBEDDED, *known()))}" if path.name == source else ""
        raise CorpusError(
            path,
            expected=f"{kinds}, a folder of such{names}",
            got="no such path",
            hint="Check the spelling",
        )
    if any((path / f"dataset_{kind}.json").exists() for kind in ("dict", "info")):
        return {"": path}
    found = sorted(p for p in path.iterdir() if _suffix(p) in READERS and p.is_file())
    if len(found) == 1:
        return {"": found[0]}
    named = {part: [p for p in found if split_of(p.name) == part] for part in SPLITS}
    if len(named["train"]) == 1 and all(len(files) <= 1 for files in named.values()):
        return {part: files[0] for part, files in named.items() if files}
    raise CorpusError(
        path,
        expected="one data file, or one with 'train' and at most one with 'dev' and with 'test' in "
        "its name",
        got=", ".join(p.name for p in found) or "no data file",
        hint=f"Name {kinds}",
    )


def _suffix(path: str | Path) -> str:
    return Path(_PACKED.sub("", str(path).lower())).suffix


def _read_file(path: str | Path, reading: Reading) -> Splits:
    if isinstance(path, Path) and path.is_dir():
        return records.read_dataset(path, records.load_saved_dataset(path), reading)
    read = READERS[_suffix(path)](path, reading)
    return read if isinstance(read, dict) else {"": read}


def _three_splits(
    name: str, splits: Splits, shares: Sequence[float] | None, seed: int, reading: Reading
) -> Splits:
    if shares:
        splits = {"train": [sentence for part in splits.values() for sentence in part]}
    whole = splits["train"]
    train, dev, test = shares or (8, 1, 1)
    unit = len(whole) / (train + dev + test)
    missing = {p: n * unit for p, n in (("dev", dev), ("test", test)) if not splits.get(p)}
    if missing:
        documents = len({s.doc_id for s in whole} - {None}) > 1
        how = "whole documents" if documents else "blocks of neighbouring sentences"
        reading.note(f"{name}: {' and '.join(missing)} held out of train by {how}.")
        splits = {**splits, **hold_out(whole, missing, seed)}
    if test and not splits["test"]:
        reading.note(f"{name}: too few documents for a test split.")
    return splits


def hold_out(sentences: Sequence[Sentence], sizes: Mapping[str, float], seed: int) -> Splits:
    """Divide sentences, whole documents at a time.

    Sentences of no document, or all of one, go in blocks of neighbours.

    Args:
        sentences: All sentences.
        sizes: About how many sentences to hold out for each part.
        seed: Chooses which.

    Returns:
        Sentences by part, each in their order; what is left is ``"train"``, at least one document.
    """
    several = len({s.doc_id for s in sentences} - {None}) > 1
    block = min(20, 1 + len(sentences) // 100)
    groups: dict[Any, list[int]] = defaultdict(list)
    for i, sentence in enumerate(sentences):
        key = sentence.doc_id if several else None
        groups[i // block if key is None else key].append(i)
    order = list(groups.values())
    random.Random(seed).shuffle(order)
    parts: dict[str, list[int]] = {}
    for part, size in sizes.items():
        parts[part] = []
        while len(parts[part]) < size and len(order) > 1:
            parts[part] += order.pop()
    parts["train"] = [i for group in order for i in group]
    return {part: [sentences[i] for i in sorted(chosen)] for part, chosen in parts.items()}


def _sample(sentences: Sequence[Sentence], limit: int | None, seed: int) -> list[Sentence]:
    """Return ``limit`` sentences (all if ``None``) chosen by the seed, in their order."""
    if limit is None or limit >= len(sentences):
        return list(sentences)
    chosen = sorted(random.Random(seed).sample(range(len(sentences)), limit))
    return [sentences[i] for i in chosen]


def _complete_cats(splits: Sequence[list[Sentence]]) -> list[tuple[Sentence, ...]]:
    """Give every category to sentences whose label says that there are no others.

    spaCy takes a category that is not there for unknown, and would learn nothing from it.
    """
    names = sorted({name for split in splits for s in split for name in s.cats or ()})
    zeros = dict.fromkeys(names, 0.0)
    return [
        tuple(
            s if s.cats is None or s.open_cats else replace(s, cats={**zeros, **s.cats})
            for s in split
        )
        for split in splits
    ]


def _joined(sentences: Sequence[Sentence], size: int) -> list[Sentence]:
    """Join neighbouring sentences of one document to texts of at most ``size`` sentences."""
    from spacy.tokens import Doc
    from spacy.vocab import Vocab

    vocab = Vocab()
    texts = []
    for doc_id, group in groupby(sentences, key=lambda sentence: sentence.doc_id):
        docs = [to_doc(replace(s, sent_id=None, doc_id=None), vocab) for s in group]
        for start in range(0, len(docs), size):
            text = from_span(Doc.from_docs(docs[start : start + size])[:])
            texts.append(replace(text, doc_id=doc_id))
    return texts


def join_layer(
    splits: Mapping[str, list[Sentence]], layer: Iterable[Sentence], name: str, reading: Reading
) -> Splits:
    """Fill layers that the sentences lack from another reading of them.

    Args:
        splits: Sentences to annotate further, by split; what they have already stays.
        layer: Sentences with the same ``sent_id`` and words, of any split, in any order.
        name: The layer's name, for messages.
        reading: What to do with a sentence that the layer lacks or that has other words there.

    Returns:
        The splits without those sentences.

    Raises:
        CorpusError: the layer or the sentences have no ids, no id is common to both, or, unless
            such are to be skipped, a sentence has no partner.
    """
    index: dict[str, list[Sentence]] = defaultdict(list)
    for other in layer:
        if other.sent_id is not None:
            index[other.sent_id].append(other)
    if not any(s.sent_id in index for sentences in splits.values() for s in sentences):
        raise CorpusError(
            name,
            expected="a layer with the sent_id of the sentences to annotate",
            got=f"{len(index)} sentences with a sent_id, none of them among those",
            hint="Give both files '# sent_id = …' lines of the same corpus",
        )
    joined: Splits = {split: [] for split in splits}
    for split, sentences in splits.items():
        for sentence in sentences:
            others = index.get(sentence.sent_id or "", [])
            if same := [other for other in others if other.words == sentence.words]:
                keys = [
                    key for layer in _LAYERS if getattr(sentence, layer[0]) is None for key in layer
                ]
                news = {key: getattr(same[0], key) for key in keys}
                joined[split].append(replace(sentence, **news))
            else:
                reading.meet(_mismatch(sentence, others, name))
    return joined


def _mismatch(sentence: Sentence, others: list[Sentence], name: str) -> CorpusError:
    expected, got = f"the sentence {sentence.sent_id!r}", "no sentence of that sent_id"
    if others:
        words, other = sentence.words, others[0].words
        length = min(len(words), len(other))
        at = next((i for i in range(length) if words[i] != other[i]), length)
        expected = f"in {sentence.sent_id!r} from word {at + 1} on {words[at : at + 4]}"
        got = str(other[at : at + 4])
    reason = f"{'tokens differ' if others else 'not'} in layer {name}"
    hint = 'Use matching releases, or pass on_mismatch="skip" to leave such sentences out'
    return CorpusError(name, expected=expected, got=got, hint=hint, reason=reason)
