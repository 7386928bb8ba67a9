"""Tokenise the next batch while the encoder runs over this one."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

Batch = TypeVar("Batch")
Result = TypeVar("Result")


def begun(pool: ThreadPoolExecutor, work: Callable[..., Result], *given: object) -> Future[Result]:
    """Begin work in a pool, or do it here where the pool starts nothing any more.

    While the main thread waits at its end for other threads, Python refuses new work to pools.
    """
    try:
        return pool.submit(work, *given)
    except RuntimeError:
        done: Future[Result] = Future()
        try:
            done.set_result(work(*given))
        except Exception as error:
            done.set_exception(error)
        return done


def one_ahead(
    work: Callable[[Batch], Result], batches: Iterable[Batch]
) -> Iterator[tuple[Batch, "Future[Result]"]]:
    """Yield each batch with what was made of it, and make what the next one needs meanwhile.

    A batch is drawn in the caller's thread, where spaCy's earlier components run; only the work
    is done in another, in the same context: Thinc keeps its ops in a context variable.

    Args:
        work: What to do ahead; its errors come with the batch that they belong to.
        batches: May be endless; one more than was asked for is drawn. An error in drawing comes
            after the batches before it.
    """
    drawn, waiting, error = iter(batches), None, None
    with ThreadPoolExecutor(1, "trfnb-ahead") as thread:
        while True:
            try:
                batch = next(drawn)
            except StopIteration:
                break
            except Exception as one:
                error = one
                break
            started = batch, begun(thread, copy_context().run, work, batch)
            if waiting is not None:
                yield waiting
            waiting = started
        if waiting is not None:
            yield waiting
    if error is not None:
        raise error
