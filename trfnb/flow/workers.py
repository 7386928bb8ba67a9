"""Several passes at the same time, each in one thread, instead of many threads in one pass."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")
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
        _pools[threads] = ThreadPoolExecutor(
            threads, "trfnb-pass", torch.set_num_threads, initargs=(1,)
        )
    waiting = [_pools[threads].submit(work, part) for part in parts]
    try:
        while waiting:
            yield waiting.pop(0).result()
    finally:
        for future in waiting:
            future.cancel()
        # A new thread of the pool also sets what later threads of this process begin with.
        torch.set_num_threads(threads)


def even(total: int, most: int) -> int:
    """Return the size of parts that all threads finish at about the same time.

    Args:
        total: What is to be shared out.
        most: The largest size of a part.
    """
    threads = torch.get_num_threads()
    if total <= most:
        return most
    rounds = -(-total // (most * threads))
    return -(-total // (rounds * threads))
