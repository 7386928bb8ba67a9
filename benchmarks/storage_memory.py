"""Memory while 100,000 documents are piped, for each storage policy of `doc._.trf_data`.

The documents are let go as they come, as in any stream; MiniLM reads them.

    python -m benchmarks.storage_memory [--docs 100000]
"""

import argparse
import os
import random
from collections.abc import Iterator
from pathlib import Path

import psutil
import spacy
import srsly
from tqdm import tqdm

from trfnb import models

RESULTS = Path(__file__).parent / "results" / "storage_memory.json"
WORDS = ("the bank river april paris", "meets plans trade a minister", "of in for and report")


def texts(count: int) -> Iterator[str]:
    """Yield short texts of few different words, so that the string store does not grow."""
    draw = random.Random(0)
    for _ in range(count):
        yield " ".join(draw.choices(" ".join(WORDS).split(" "), k=draw.randint(3, 15)))


def main() -> None:
    """Pipe the documents and write the resident memory after every twentieth of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docs", type=int, default=100_000)
    given = parser.parse_args()
    nlp = spacy.blank("en")
    settings = {"model": {"name": models.path("minilm"), "precision": "bf16"}, "storage": "none"}
    nlp.add_pipe("transformer", config=settings)
    nlp.initialize()
    resident = psutil.Process(os.getpid()).memory_info
    found = []
    bar = tqdm(nlp.pipe(texts(given.docs), batch_size=512), total=given.docs)
    for number, doc in enumerate(bar, start=1):
        if doc._.trf_data is not None and doc._.trf_data.last_hidden_layer_state.data.size:
            raise ValueError("storage 'none' expected an empty trf_data")
        if number % (given.docs // 20) == 0:
            found.append({"docs": number, "mb": round(resident().rss / 1e6, 1)})
    RESULTS.parent.mkdir(exist_ok=True)
    srsly.write_json(RESULTS, found)
    for row in found:
        print(row)


if __name__ == "__main__":
    main()
