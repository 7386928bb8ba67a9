"""A name, a path or a dataset becomes a Corpus: files, splits, limits and layers."""

import os
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import PositiveInt, validate_call

from trfnb.corpora.columns import read_columns, read_conllu
from trfnb.corpora.corpus import (
    SPLITS,
    Corpus,
    CorpusError,
    OnError,
    Reading,
    Sentence,
    read_docbin,
)
from trfnb.corpora.records import read_dataset, read_json, read_table

Splits = dict[str, list[Sentence]]

EMBEDDED = "newsroom"
READERS: dict[str, Callable[[str | Path, Reading], Any]] = {
    ".conllu": read_conllu,
    ".spacy": read_docbin,
    ".jsonl": read_json,
    ".json": read_json,
    ".csv": read_table,
    ".tsv": read_table,
    **dict.fromkeys((".conll", ".iob", ".iob2", ".bio", ".bioes", ".bilou", ".bmes"), read_columns),
}
# Sentences to choose or score by, where they are held out: more would be missed in training.
_HELD_OUT = 600
_PACKED = re.compile(r"\.(gz|bz2|xz|zip|zst)$")
_PART = re.compile(
    r"(?:^|[^a-z])(?:(?P<train>train|training)|(?P<test>test|testb|eval|evaluation)"
    r"|(?P<dev>dev|devel|development|val|valid|validation|testa))(?:[^a-z]|$)"
)
# Public treebanks at a fixed release: where they are, how their files are called, and the files'
# SHA-256, which the catalogue of HuggingFace `datasets` 2.x recorded when it downloaded them.
TREEBANKS = {
    "ud_ewt": (  # CC BY-SA 4.0
        "https://raw.githubusercontent.com/UniversalDependencies/UD_English-EWT/r2.7/",
        "en_ewt-ud-{}.conllu",
        {
            "train": "4e45f7b6f6d4e8d33e0ba7090fc37f2385a91711edb20d456d3fb5f45ac0fc28",
            "dev": "57703dcd3b04c32dda6cb7c2a9d836daf65c2b9141a670163693d230b46559c8",
            "test": "25ef2d6fe772b8f05be374e093693f14284ccdd870fc27a9295f7e5a0fc3253a",
        },
    ),
    "ud_gum": (  # CC BY-NC-SA 4.0
        "https://raw.githubusercontent.com/UniversalDependencies/UD_English-GUM/r2.7/",
        "en_gum-ud-{}.conllu",
        {
            "train": "e68573d310b106e644e3c9f7a13a0ee113e94542cd3b8a96abc2e1f294732c65",
            "dev": "de1ae4bd12f6c3c5c8f6ca1038b2086213ad557185b3d824e6e4db708e6d31f3",
            "test": "4a7ef02625a01029daa8f3b683aa2b144fdace3e2ea76ae9ff67725a72fa50e4",
        },
    ),
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
    limit: PositiveInt | None = None,
    dev_limit: PositiveInt | None = None,
    seed: int = 0,
    layers: Sequence[str | Path] = (),
    column: int | str | None = None,
    text_column: int | str | None = None,
    lang: str = "en",
    dev_as_test: bool = False,
    entities: Sequence[str] | None = None,
    on_error: OnError = "raise",
) -> Corpus:
    """Read a corpus.

    Three splits come from files, or parts of a file, with train, dev (devel, development, val,
    valid, validation) and test in their names. What is missing is held out of train, a tenth
    each, about 600 sentences at most: whole documents where the corpus marks them, else blocks of
    neighbouring sentences.

    Args:
        source: ``"newsroom"`` (comes with trfnb), ``"ud_ewt"`` or ``"ud_gum"`` (see `fetch`), a
            HuggingFace dataset or a dict of such, or a path or URL, also of a compressed file:
            CoNLL-U (``.conllu``), columns of entity labels (``.conll``, ``.iob``, ``.bio``,
            ``.bmes``, …, see `read_columns`), ``.spacy`` (a Doc stays one text; senter learns from
            those of several sentences), texts with categories or spans (``.jsonl``, ``.json``, see
            `read_json`; ``.csv``, ``.tsv``, see `read_table`), or a folder of such files or of a
            saved dataset.
        limit: Train on so many sentences at most.
        dev_limit: Choose on so many sentences at most; the same ones whatever the seed.
        seed: Order of the training sentences, and which of them a limit leaves.
        layers: Paths of further annotation of the same sentences, joined by ``sent_id``; a
            sentence that a layer lacks or tokenises otherwise is left out and counted.
        column: The label column of columns and tables, where it is not found rightly by itself:
            an index from 0, or a name.
        text_column: The text's column of a table, or its key in records.
        lang: Language whose tokenizer splits raw texts, and of the pipeline to train.
        dev_as_test: Score on the dev file and hold dev out of train, for a corpus whose test
            file is kept aside.
        entities: Labels of entities to keep, where not all are to be learnt; all by default.
        on_error: ``"raise"`` on a malformed sentence, or ``"skip"`` and count it.

    Raises:
        CorpusError: input that cannot be used; names the file, the line and what to do.
        ValueError: an option out of range; all such are named at once.
    """
    reading = Reading(on_error, lang, column, text_column)
    name, splits = _read(source, reading)
    for layer in layers:
        layer_name, read = _read(layer, reading)
        splits = join_layer(splits, chain.from_iterable(read.values()), layer_name, reading)
    if dev_as_test:
        splits["test"] = splits.pop("dev", []) or splits.get("test", [])
    splits = _three_splits(name, splits, reading)
    if not splits["train"] or not splits["dev"]:
        raise CorpusError(
            _place(source),
            expected="sentences to train on and to choose on",
            got=f"{len(splits['train'])} and {len(splits['dev'])} (left out: "
            f"{dict(reading.skipped) or 'none'})",
            hint="Give more sentences or documents, or correct those that were skipped",
        )
    if entities is not None:
        splits = _only(splits, entities)
    _compare_labels(splits, reading)
    order, kept = list(splits["train"]), splits["dev"]
    random.Random(seed).shuffle(order)
    chosen = random.Random(0).sample(range(len(kept)), min(dev_limit or len(kept), len(kept)))
    kept = [kept[i] for i in sorted(chosen)]
    train, dev, test = _complete_cats([order[:limit], kept, splits["test"]])
    corpus = Corpus(name, train, dev, test, dict(reading.skipped), (), lang)
    for split, part in (("Dev", dev), ("Test", test or dev)):
        given = {t.removesuffix("_multilabel") for t in replace(corpus, dev=part, test=()).tasks}
        for task in replace(corpus, dev=train, test=()).tasks:
            if task.removesuffix("_multilabel") not in given:
                reading.notes.append(
                    f"{split} has nothing annotated for {task}: it is left out of the tasks."
                )
    return replace(corpus, notes=tuple(dict.fromkeys(reading.notes)))


def embedded() -> Path:
    """Return the folder of the corpus that comes with trfnb."""
    inside = Path(__file__).parent / EMBEDDED  # in a wheel
    return inside if inside.is_dir() else Path(__file__).parents[2] / "data" / EMBEDDED


def fetch(name: str) -> Path:
    """Return a public treebank's folder; download what is not there yet.

    Files lie under ``TRFNB_DATA``, or in the user's cache folder. Every file is checked, freshly
    downloaded or put there by hand.

    Raises:
        CorpusError: no network (says where to put the files by hand), or a file whose hash is
            another.
    """
    import pooch

    url, pattern, sums = TREEBANKS[name]
    shelf = pooch.create(
        path=Path(os.environ.get("TRFNB_DATA") or pooch.os_cache("trfnb")).expanduser() / name,
        base_url=url,
        registry={pattern.format(split): f"sha256:{value}" for split, value in sums.items()},
        allow_updates=False,  # a file that changed is told of, not replaced
    )
    for file, value in shelf.registry.items():
        path = shelf.abspath / file
        try:
            shelf.fetch(file, downloader=pooch.HTTPDownloader(timeout=30))
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            raise CorpusError(
                path,
                expected=f"the file with {value}, or a network to download {shelf.get_url(file)}",
                got=f"{type(error).__name__}: {str(error)[:200]}",
                hint=f"Remove a file that is another, or download it elsewhere and put it at {path}"
                "; TRFNB_DATA names another folder",
            ) from error
    return Path(shelf.abspath)


def split_of(name: str) -> str | None:
    """Return ``"train"``, ``"dev"`` or ``"test"`` if a file's or split's name says so."""
    match = _PART.search(name.lower())
    return match.lastgroup if match else None


# Return a source's name and its sentences by split; what names no split is train's.
def _read(source: Any, reading: Reading) -> tuple[str, Splits]:
    if isinstance(source, str | Path):
        name, files = _locate(source)
        parts = {p: READERS.get(_suffix(f), read_dataset)(f, reading) for p, f in files.items()}
    else:
        name = _place(source)
        parts = {"": read_dataset(name, reading, source)}
    read: Splits = defaultdict(list)
    for part, content in parts.items():
        for key, sentences in (content if isinstance(content, dict) else {"": content}).items():
            read[part or key] += sentences
    splits: Splits = defaultdict(list)
    for key, sentences in read.items():
        if named := split_of(key) if key else "train":
            splits[named] += sentences
        else:
            reading.skipped[f"split {key!r} is none of train, dev and test"] += len(sentences)
    empty = [part for part in dict.fromkeys(("train", *splits)) if not splits[part]]
    if empty and not reading.skipped:
        raise CorpusError(
            _place(source),
            expected=f"annotated sentences for {' and '.join(empty)}",
            got=f"none, but for {', '.join(read)}",
            hint="Check the file's format, or the names of files and splits",
        )
    return name, splits


def _place(source: Any) -> str:
    return str(source) if isinstance(source, str | Path) else f"a {type(source).__name__}"


# Return a source's name and its files by split; all in one by ``""``.
def _locate(source: str | Path) -> tuple[str, dict[str, str | Path]]:
    text = str(source)
    path: str | Path = text if "://" in text else Path(source).expanduser()
    if text == EMBEDDED:
        path = embedded()
    elif text in TREEBANKS:
        path = fetch(text)
    name = Path(_PACKED.sub("", Path(text).name)).stem
    folder = path if isinstance(path, Path) and path.is_dir() else None
    if folder and any((folder / f"dataset_{kind}.json").exists() for kind in ("dict", "info")):
        return name, {"": folder}
    files = [p for p in (sorted(folder.iterdir()) if folder else [path]) if _suffix(p) in READERS]
    if len(files) == 1:
        return name, {"": files[0]}
    named = {part: [p for p in files if split_of(Path(p).name) == part] for part in SPLITS}
    if len(named["train"]) == 1 and all(len(some) <= 1 for some in named.values()):
        return name, {part: some[0] for part, some in named.items() if some}
    raise CorpusError(
        path,
        expected=f"a file that ends in {', '.join(READERS)}, a folder of one such, or of one with "
        f"'train' and at most one with 'dev' and with 'test' in its name, or one of "
        f"{', '.join((EMBEDDED, *TREEBANKS))}",
        got=", ".join(Path(p).name for p in files) or "no such file",
        hint="Check the spelling; rename or convert the file",
    )


def _suffix(path: str | Path) -> str:
    return Path(_PACKED.sub("", str(path).lower())).suffix


# Hold dev and test out of train where they are missing.
def _three_splits(name: str, splits: Splits, reading: Reading) -> Splits:
    whole = splits["train"]
    missing = [part for part in ("dev", "test") if not splits.get(part)]
    if missing:
        ids = {s.doc_id for s in whole if s.doc_id is not None}
        alone = f" (all of one document, {', '.join(ids)!r})" if ids else ""
        units = "single texts" if _single(whole) else "blocks of neighbouring sentences"
        how = "whole documents" if len(ids) > 1 else f"{units}{alone}"
        reading.notes.append(f"{name}: {' and '.join(missing)} held out of train by {how}.")
        splits = {**splits, **hold_out(whole, missing)}
    if not splits["test"]:
        reading.notes.append(f"{name}: too few documents for a test split.")
    return splits


def hold_out(sentences: Sequence[Sentence], parts: Iterable[str]) -> Splits:
    """Hold out a tenth of the sentences for each part, about 600 at most, in whole documents.

    Sentences of no document, or all of one, go in blocks of neighbours; texts that all have
    categories, which often lie sorted by them, one by one. The same sentences are held out in
    every call.

    Returns:
        Sentences by part, each in their order; what is left is ``"train"``, at least one document.
    """
    several = len({s.doc_id for s in sentences} - {None}) > 1
    block = 1 if _single(sentences) else min(20, 1 + len(sentences) // 100)
    groups: dict[Any, list[int]] = defaultdict(list)
    for i, sentence in enumerate(sentences):
        whole = several and sentence.doc_id is not None
        groups[sentence.doc_id if whole else i // block].append(i)
    order = list(groups.values())
    random.Random(0).shuffle(order)
    share = min(len(sentences) / 10, _HELD_OUT)
    order.sort(key=lambda group: len(group) > share, reverse=True)  # too large ones come last
    held: dict[str, list[int]] = {part: [] for part in parts}
    for chosen in held.values():
        while len(chosen) < share and len(order) > 1:
            chosen += order.pop()
    held["train"] = [i for group in order for i in group]
    return {part: [sentences[i] for i in sorted(chosen)] for part, chosen in held.items()}


def _single(sentences: Sequence[Sentence]) -> bool:
    return all(s.cats is not None and s.tags is None for s in sentences)


# Give every category to sentences whose label says that there are no others.
#
# spaCy takes a category that is not there for unknown, and would learn nothing from it.
def _complete_cats(splits: Sequence[Sequence[Sentence]]) -> list[tuple[Sentence, ...]]:
    names = {name for split in splits for s in split for name in s.cats or ()}
    zeros = dict.fromkeys(sorted(names), 0.0)
    return [
        tuple(
            s if s.cats is None or s.open_cats else replace(s, cats={**zeros, **s.cats})
            for s in split
        )
        for split in splits
    ]


# Leave out entities of other labels.
def _only(splits: Splits, entities: Sequence[str]) -> Splits:
    there = {label for those in splits.values() for s in those for *_, label in s.ents or ()}
    if unknown := sorted({*entities} - there):
        raise CorpusError(
            "entities",
            expected=f"labels of the corpus, {', '.join(sorted(there)) or 'which has none'}",
            got=", ".join(unknown),
            hint="Correct them, or leave entities out to keep all",
        )
    return {
        split: [
            replace(s, ents=tuple(ent for ent in s.ents if ent[2] in entities)) if s.ents else s
            for s in those
        ]
        for split, those in splits.items()
    }


# Note the entity labels of train that the test split should have, by their number, and lacks: every
# prediction of such a label counts as an error there.
def _compare_labels(splits: Splits, reading: Reading) -> None:
    counts = {
        split: Counter(label for s in sentences for _, _, label in s.ents or ())
        for split, sentences in splits.items()
    }
    share = len(splits["test"]) / len(splits["train"])
    lacking = [
        label
        for label, n in counts["train"].items()
        if counts["test"] and n * share >= 5 and not counts["test"][label]
    ]
    if lacking:
        reading.notes.append(
            f"Train has entities {', '.join(lacking)}, test has none: another annotation? "
            "`entities` names the labels to keep."
        )


def join_layer(
    splits: Mapping[str, list[Sentence]], layer: Iterable[Sentence], name: str, reading: Reading
) -> Splits:
    """Fill layers that the sentences lack from another reading of them.

    Args:
        splits: Sentences to annotate further, by split; what they have already stays.
        layer: Sentences with the same ``sent_id`` and words, of any split, in any order.
        name: The layer's name, for messages.
        reading: Counts sentences that the layer lacks, or that have other words there.

    Returns:
        The splits without those sentences.

    Raises:
        CorpusError: the layer or the sentences have no ids, no id is common to both, or the layer
            annotates one sentence in two ways.
    """
    partners: dict[tuple[str, tuple[str, ...]], Sentence] = {}
    for one in layer:
        known = replace(one, doc_id=None)
        if one.sent_id and partners.setdefault((one.sent_id, one.words), known) != known:
            raise CorpusError(
                name,
                expected="one annotation of each sentence",
                got=f"two of sent_id {one.sent_id!r} with the same words",
                hint="Give ids that do not begin again in each file",
            )
    ids = {sent_id for sent_id, _ in partners}
    if not any(s.sent_id in ids for sentences in splits.values() for s in sentences):
        raise CorpusError(
            name,
            expected="a layer with the sent_id of the sentences to annotate",
            got=f"{len(ids)} different ones, none of them among those",
            hint="Give both files '# sent_id = …' lines of the same corpus",
        )
    joined: Splits = {split: [] for split in splits}
    for split, sentences in splits.items():
        for sentence in sentences:
            if other := partners.get((sentence.sent_id or "", sentence.words)):
                lacking = [keys for keys in _LAYERS if getattr(sentence, keys[0]) is None]
                news = {key: getattr(other, key) for keys in lacking for key in keys}
                joined[split].append(replace(sentence, **news))
            else:
                why = "tokens differ" if sentence.sent_id in ids else "not"
                reading.skipped[f"{why} in layer {name}"] += 1
    return joined
