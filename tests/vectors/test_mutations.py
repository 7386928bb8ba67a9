"""Any bytes into the readers: the table that a reference reads, or a clear error.

``TRFNB_MUTATIONS=10000`` in the environment makes a long run of it.
"""

import bz2
import gzip
import lzma
import os
import random
import zipfile
from contextlib import suppress

import numpy as np
import pytest
import srsly
from safetensors.numpy import load_file
from spacy.vectors import Vectors
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from trfnb.vectors import VectorsError, convert

from . import tables
from .tables import WIDTH, WORDS, table
from .test_readers_binary import _gensim
from .test_readers_text import read

COUNT = int(os.environ.get("TRFNB_MUTATIONS", "500"))
BUCKETS = table(9, WIDTH, seed=5)
# What separates, signs and ends things in these formats.
MARKS = [
    b" ",
    b"\t",
    b"\n",
    b"\r",
    b"\0",
    b".",
    b"-",
    b"e",
    b"nan",
    b"1",
    b"99",
    b"\xff",
    b"\xc3",
    b"{",
]


def mutated(draw, content):
    """Change, cut, double, move or put in bytes, once to three times."""
    content = bytearray(content)
    for _ in range(draw.randint(1, 3)):
        start = draw.randrange(len(content) + 1)
        # Half of the changes are near the beginning, where formats say what they are.
        start = draw.randrange(min(96, len(content)) + 1) if draw.random() < 0.5 else start
        end = start + draw.choice([0, 1, 1, 2, 4, 8, 40])
        part = bytes(content[start:end])
        new = draw.choice(
            [b"", part * 2, part[::-1], draw.choice(MARKS), draw.randbytes(draw.randint(1, 8)),
             b"\0" * len(part), bytes(255 - byte for byte in part)]
        )  # fmt: skip
        content[start:end] = new
    if draw.random() < 0.15:
        del content[draw.randrange(len(content) + 1) :]
    return bytes(content)


def rows_of_text(content, found):
    """Each line that begins with a key and ends with as many numbers, as Python reads them."""
    width, rows = len(next(iter(found.values()), ())), {}
    for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        for one, delimiter in ((line.replace(b"\t", b" "), b" "), (line, b"\t")):
            key, *values = one.rstrip(b" \t\r").rsplit(delimiter, width)
            with suppress(ValueError, OverflowError), np.errstate(over="ignore"):
                row = np.array([float(value) for value in values]).astype("f4").tobytes()
                word = key.decode("utf8", "replace").replace("\t", " ")
                rows.setdefault(word, []).append(row)
    return rows


def by_text(unpack):
    def expected(path, found):
        return rows_of_text(unpack(path), found)

    return expected


def unzipped(path):
    with zipfile.ZipFile(path) as archive:
        return archive.read(archive.namelist()[0])


def by_word2vec(path, found):
    keyed = pytest.importorskip("gensim.models").KeyedVectors
    return by_rows(keyed.load_word2vec_format(str(path), binary=True))


def by_rows(keyed):
    return {word: [keyed.vectors[row].tobytes()] for word, row in keyed.key_to_index.items()}


def by_fasttext(path, found):
    fasttext = pytest.importorskip("gensim.models.fasttext")
    try:
        keyed = fasttext.load_facebook_vectors(str(path), encoding="utf8")
    except (
        NotImplementedError,
        AssertionError,
    ):  # of a supervised model, of a word that comes twice
        return {word: [row] for word, row in found.items()}
    return {word: [keyed.get_vector(word)] for word in keyed.key_to_index}


def keyed_by(keys, data):
    return {key: [np.asarray(row, "f4").tobytes()] for key, row in zip(keys, data, strict=True)}


def listed(path):
    keys = path.with_suffix(".keys").read_bytes().decode("utf-8-sig").removesuffix("\n").split("\n")
    return [key.removesuffix("\r") for key in keys]


def by_npy(path, found):
    return keyed_by(listed(path), np.load(path))


def by_safetensors(path, found):
    return keyed_by(listed(path), next(iter(load_file(path).values())))


def by_model2vec(path, found):
    tensors = load_file(path / "model.safetensors")
    vocab = Tokenizer.from_file(str(path / "tokenizer.json")).get_vocab()
    data = tensors["embeddings"][tensors["mapping"]] * tensors["weights"][:, None]
    return keyed_by(sorted(vocab, key=vocab.get), data)


def by_spacy(path, found):
    strings = srsly.read_json(path / "vocab" / "strings.json")
    vectors = Vectors()
    for string in strings:
        vectors.strings.add(string)
    vectors.from_disk(path / "vocab", exclude=["strings"])
    return {
        vectors.strings[key]: [vectors.data[row].astype("f4").tobytes()]
        for key, row in vectors.key2row.items()
        if key in vectors.strings
    }


def in_the_file(path, found):
    """A pickle is not read by pickle: what is found must lie in it."""
    content = path.read_bytes()
    kinds = ("<f4", ">f4", "<f8", ">f8", "<f2", "<i4")
    return {
        word: [row.tobytes()]
        for word, row in found.items()
        if word.encode() in content and any(row.astype(kind).tobytes() in content for kind in kinds)
    }


def write_model2vec(folder):
    from safetensors.numpy import save_file

    folder.mkdir()
    mapping, weights = np.arange(len(WORDS))[::-1].copy(), np.linspace(0.5, 2, len(WORDS))
    arrays = {"embeddings": table(), "mapping": mapping, "weights": weights.astype("f4")}
    save_file(arrays, folder / "model.safetensors")
    words = WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token=WORDS[0])
    Tokenizer(words).save(str(folder / "tokenizer.json"))
    return folder


def write_spacy(folder):
    convert(tables.write_text(folder.with_suffix(".vec")), folder, lang="xx")
    folder.with_suffix(".vec").unlink()
    return folder


def packed(how):
    return lambda path: tables.packed(tables.write_text(path), how)


# How a file or folder is written, and what a reference reads in it: for each word its rows.
FORMS = {
    "header": (lambda p: tables.write_text(p / "v.vec"), by_text(lambda path: path.read_bytes())),
    "glove": (
        lambda p: tables.write_text(p / "v.txt", header=False),
        by_text(lambda path: path.read_bytes()),
    ),
    "tabs": (
        lambda p: tables.write_text(p / "v.tsv", space="\t", header=False),
        by_text(lambda path: path.read_bytes()),
    ),
    "gz": (lambda p: packed("gz")(p / "v.vec"), by_text(lambda p: gzip.decompress(p.read_bytes()))),
    "bz2": (
        lambda p: packed("bz2")(p / "v.vec"),
        by_text(lambda p: bz2.decompress(p.read_bytes())),
    ),
    "xz": (lambda p: packed("xz")(p / "v.vec"), by_text(lambda p: lzma.decompress(p.read_bytes()))),
    "zip": (lambda p: packed("zip")(p / "v.vec"), by_text(unzipped)),
    "word2vec": (lambda p: tables.write_word2vec(p / "v.bin"), by_word2vec),
    "fasttext": (
        lambda p: tables.write_fasttext(p / "v.bin", buckets=BUCKETS, minn=2, maxn=3),
        by_fasttext,
    ),
    "npy": (lambda p: tables.write_npy(p / "v.npy"), by_npy),
    "safetensors": (lambda p: tables.write_safetensors(p / "v.safetensors"), by_safetensors),
    "gensim": (lambda p: _gensim(p / "v.kv"), in_the_file),
    "model2vec": (lambda p: write_model2vec(p / "model"), by_model2vec),
    "spacy": (lambda p: write_spacy(p / "spacy"), by_spacy),
}
# Forms with a checksum or of one piece: next to nothing that is changed can be read.
SEALED = {"gz", "bz2", "xz", "zip", "gensim"}
# Forms that may be named instead of told from the first bytes.
TOLD = {"word2vec", "fasttext", "npy", "safetensors", "gensim"}


def equal(row, references):
    if isinstance(references[0], np.ndarray):  # fastText sums in another order
        return any(
            np.allclose(row, one, rtol=1e-4, atol=1e-6, equal_nan=True) for one in references
        )
    return row.tobytes() in references


def problem(form, path, told):
    """Read what was mutated; return what is wrong with the answer, or how many rows it has."""
    options = {"form": form} if told else {}
    try:
        found, report = read(path, **options)
    except VectorsError as error:
        return 0 if len(str(error)) > 40 else f"an error without a cause: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if not found:
        return 0
    try:
        expected = FORMS[form][1](path, found)
    except Exception as error:
        return f"{len(found)} rows of what the reference refuses: {type(error).__name__}: {error}"
    for word, row in found.items():
        if not equal(row, expected.get(word.replace("\t", " "), [b""])):
            return f"another row for {word!r}"
    left_out = sum(map(len, report.skipped.values()))
    if form in ("word2vec", "npy", "safetensors", "spacy") and len(found) + left_out < len(
        expected
    ):
        return f"{len(expected)} rows, {len(found)} read and {left_out} reported"
    return len(found)


@pytest.mark.parametrize("form", FORMS)
def test_mutations_are_read_as_by_the_reference_or_refused(form, tmp_path):
    whole, wrong, read_well, count = FORMS[form][0](tmp_path), [], 0, COUNT // len(FORMS) + 1
    files = [whole, *whole.parent.glob("*.keys")] if whole.is_file() else sorted(whole.rglob("*"))
    contents = {path: path.read_bytes() for path in files if path.is_file()}
    for number in range(count):
        draw = random.Random(f"{form} {number}")
        place = whole if whole.is_file() and draw.random() < 0.8 else draw.choice([*contents])
        place.write_bytes(mutated(draw, contents[place]))
        found = problem(form, whole, form in TOLD and draw.random() < 0.7)
        place.write_bytes(contents[place])
        read_well += isinstance(found, int) and found > 0
        if isinstance(found, str):
            wrong.append(f"{form} {number}: {found}")
    assert not wrong, "\n".join(wrong[:20])
    assert read_well or form in SEALED
