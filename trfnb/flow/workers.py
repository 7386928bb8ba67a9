"""Several passes at the same time, each in one thread, instead of many threads in one pass."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")
# The smallest part worth a thread of its own; each costs as much as 30 wordpieces.
_LEAST = 256
_pools: dict[int, ThreadPoolExecutor] = {}
# A forked process has the pools of its parent without their threads.
os.register_at_fork(after_in_child=_pools.clear)


def side_by_side(work: Callable[[Part], Result], parts: Sequence[Part]) -> Iterator[Result]:
    """Apply a function to parts and return the results in order.

    With torch's threads on one part after another, much time goes into handing out work and
    waiting for the last thread; a part a thread has no such cost. Fewer parts than threads are
    computed one by one, by all threads.

    Args:
        work: Computes with torch on a CPU; it must not depend on which thread it runs in.
        parts: What to compute.
    """
    threads = torch.get_num_threads()
    if threads == 1 or len(parts) < threads:
        yield from map(work, parts)
        return
    if threads not in _pools:
        _pools[threads] = ThreadPoolExecutor(threads, "trfnb-pass")
    waiting: list[Future[Result]] = []
    try:
        for part in parts:
            waiting.append(begun(_pools[threads], _in_one_thread, work, part))
        while waiting:
            yield waiting.pop(0).result()
    finally:
        # After an error a caller tries again with smaller parts: what runs yet holds memory.
        wait([future for future in waiting if not future.cancel()])
        # A new thread of the pool also sets what later threads of this process begin with.
        torch.set_num_threads(threads)


def begun(
    pool: ThreadPoolExecutor, work: Callable[..., Result], *given: object
) -> "Future[Result]":
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


def _in_one_thread(work: Callable[[Part], Result], part: Part) -> Result:
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)
    return work(part)


def even(total: int, most: int) -> int:
    """Return the size of parts that all threads finish at about the same time.

    Where there is too little for all threads, parts are as large as they may be.

    Args:
        total: What is to be shared out.
        most: The largest size of a part.
    """
    threads = torch.get_num_threads()
    if total <= most:
        return most
    rounds = -(-total // (most * threads))
    size = -(-total // (rounds * threads))
    return most if size < min(_LEAST, most // 2) else size
