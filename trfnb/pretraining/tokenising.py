"""Records to words, in processes that work ahead of the training."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import Any

from spacy.cli._util import import_code
from spacy.language import Language
from spacy.util import load_model_from_config
from thinc.api import Config

from trfnb.pretraining.errors import PretrainingError
from trfnb.pretraining.reader import GivenDocs, Text, tokenised
from trfnb.pretraining.text import Record

Pieces = list[tuple[list[str], list[bool]]]
Shard = tuple[int, list[Record]]


def cut(nlp: Language, text: Text, shard: Iterable[Record]) -> Pieces:
    """Tokenise records and cut them into docs."""
    pieces = []
    for record in shard:
        words, spaces = tokenised(nlp, record)
        pieces += [(words[a:b], spaces[a:b]) for a, b in text.pieces(words, spaces)]
    return pieces


class Tokenisers:
    """Tokenises shards in order, some ahead of the one asked for.

    Args:
        nlp: What to tokenise with.
        text: What to cut by.
        workers: Processes; with 0 nothing happens ahead.
        code: A file of registered functions that they import first.
    """

    def __init__(
        self, nlp: Language, text: Text, workers: int, code: str | Path | None = None
    ) -> None:
        self._nlp, self._text, self._workers, self._code = nlp, text, workers, code
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Tokenisers":
        if self._workers and not isinstance(self._text, GivenDocs):
            tokenizer: Any = self._nlp.tokenizer
            config = Config({"nlp": dict(self._nlp.config["nlp"]) | {"pipeline": []}})
            # A tokenizer of a user's own may have no state but its config.
            state = tokenizer.to_bytes() if hasattr(tokenizer, "to_bytes") else None
            given: Any = (config.to_str(), state, self._text, self._code)
            self._pool = ProcessPoolExecutor(
                self._workers,
                # A fork would copy the parent's threads' locks in whatever state they are.
                multiprocessing.get_context("spawn"),
                initializer=_prepare,
                initargs=given,
            )
        return self

    def __exit__(self, *error: Any) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def ahead(self, stream: Iterator[Shard]) -> Iterator[tuple[int, Pieces]]:
        """Yield each shard's number and docs.

        Raises:
            PretrainingError: a worker ended.
        """
        if self._pool is None:
            for number, shard in stream:
                yield number, cut(self._nlp, self._text, shard)
            return
        waiting: deque[tuple[int, Future[Pieces]]] = deque()
        # One more than the workers: a shard is ready while the next are made.
        for number, shard in islice(stream, self._workers + 1):
            waiting.append((number, self._pool.submit(_cut, shard)))
        while waiting:
            number, future = waiting.popleft()
            try:
                pieces = future.result()
            except BrokenProcessPool as error:
                raise PretrainingError(
                    "[pretraining_loop] workers expected processes that tokenise, got one that "
                    "ended: it could not build the config's tokenizer (its error stands above), or "
                    "was killed for memory. Give registered functions by --code, or set workers to "
                    "0."
                ) from error
            for later, shard in islice(stream, 1):
                waiting.append((later, self._pool.submit(_cut, shard)))
            yield number, pieces


_WORKER: dict[str, Any] = {}


def _prepare(config: str, state: bytes | None, text: Text, code: str | Path | None) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import_code(code)
    nlp = load_model_from_config(Config().from_str(config), auto_fill=True)
    restored: Any = nlp.tokenizer
    if state is not None:
        restored.from_bytes(state)
    _WORKER.update(nlp=nlp, text=text)


def _end_with_parent() -> None:
    """End this process when the one that trains is gone, which kill -9 tells nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _cut(shard: list[Record]) -> Pieces:
    return cut(_WORKER["nlp"], _WORKER["text"], shard)
