"""One small table, and a writer of it for every format."""

import bz2
import gzip
import lzma
import struct
import zipfile
from pathlib import Path

import numpy as np

WORDS = [
    "the",
    "of",
    "café",
    "nsubj",
    "NOUN",
    "Ünïcödé",
    "a.b",
    "naïve",
    "x" * 100,
    "日本語",
    "'s",
    "1999",
]
WIDTH = 7


def table(rows: int = len(WORDS), width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """Float32 numbers of many magnitudes, among them hard cases of decimal rounding."""
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(rows, width)) * 10.0 ** rng.integers(-12, 6, size=(rows, width))
    data[0, 0], data[0, 1], data[0, 2] = 0.0, -0.0, 1e-40
    return data.astype(np.float32)


def lines(words, data, *, space=" ", end="\n") -> str:
    return "".join(
        word + space + space.join(repr(float(v)) for v in row) + end
        for word, row in zip(words, data, strict=True)
    )


def write_text(path: Path, words=WORDS, data=None, *, header=True, **options) -> Path:
    data = table() if data is None else data
    head = f"{len(words)} {data.shape[1]}\n" if header else ""
    path.write_bytes((head + lines(words, data, **options)).encode())
    return path


def write_word2vec(path: Path, words=WORDS, data=None, *, end: bytes = b"") -> Path:
    data = table() if data is None else data
    rows = (
        w.encode() + b" " + r.astype("<f4").tobytes() + end
        for w, r in zip(words, data, strict=True)
    )
    path.write_bytes(f"{len(words)} {data.shape[1]}\n".encode() + b"".join(rows))
    return path


def write_fasttext(
    path: Path, words=WORDS, data=None, *, buckets=None, minn=0, maxn=0, version=12, model=1
) -> Path:
    """fastText's ``.bin``: settings, dictionary, input matrix (words, then buckets), output."""
    data = table() if data is None else data
    n_buckets = 0 if buckets is None else len(buckets)
    settings = (data.shape[1], 5, 1, 1, 5, 1, 1, model, n_buckets, minn, maxn, 100)
    out = (
        struct.pack("<2i", 793712314, version)
        + struct.pack("<12i", *settings)
        + struct.pack("<d", 1e-4)
    )
    out += struct.pack("<3i2q", len(words), len(words), 0, 1000, -1)
    out += b"".join(w.encode() + b"\0" + struct.pack("<qb", 3, 0) for w in words)
    matrix = data if buckets is None else np.concatenate([data, buckets])
    out += b"\0" + struct.pack("<2q", *matrix.shape) + matrix.astype("<f4").tobytes()
    out += b"\0" + struct.pack("<2q", len(words), data.shape[1]) + b"\0" * data.nbytes
    path.write_bytes(out)
    return path


def write_npy(path: Path, words=WORDS, data=None) -> Path:
    np.save(path, table() if data is None else data)
    path.with_suffix(".keys").write_text("\n".join(words) + "\n", "utf8")
    return path


def write_safetensors(path: Path, words=WORDS, data=None) -> Path:
    from safetensors.numpy import save_file

    save_file({"vectors": table() if data is None else data}, path)
    path.with_suffix(".keys").write_text("\n".join(words) + "\n", "utf8")
    return path


def write_floret(path: Path, data: np.ndarray, settings: str = "2 4 2 2166136261 < >") -> Path:
    body = "".join(f"{i} {' '.join(repr(float(v)) for v in row)}\n" for i, row in enumerate(data))
    path.write_text(f"{len(data)} {data.shape[1]} {settings}\n{body}", "utf8")
    return path


def packed(path: Path, how: str) -> Path:
    data = path.read_bytes()
    out = path.with_name(f"{path.name}.{how}")
    if how == "zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(path.name, data)
    else:
        out.write_bytes({"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}[how](data))
    return out
