"""Passes side by side: the results of passes one after another, in order, in every process."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from trfnb.flow import workers
from trfnb.flow.workers import begun, even, side_by_side


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield 2
    torch.set_num_threads(before)


def test_results_come_in_order_from_threads_that_use_one_thread_each(threads):
    def work(part):
        return part, torch.get_num_threads(), threading.current_thread().name

    found = list(side_by_side(work, range(6)))
    assert [part for part, *_ in found] == list(range(6))
    assert {n for _, n, _ in found} == {1}
    assert all(name.startswith("trfnb-pass") for *_, name in found)
    assert torch.get_num_threads() == 2


def test_threads_made_later_begin_with_all_threads(threads):
    list(side_by_side(lambda part: part, range(4)))
    seen = []
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert seen == [2]


def test_a_thread_that_starts_late_changes_nothing_for_others(threads, monkeypatch):
    monkeypatch.setattr(workers, "_pools", {})
    set_threads = torch.set_num_threads

    def slowly(n):
        if threading.current_thread().name.endswith("_1"):
            time.sleep(0.2)
        set_threads(n)

    monkeypatch.setattr(torch, "set_num_threads", slowly)
    list(side_by_side(lambda part: part, range(4)))
    time.sleep(0.4)
    seen = []
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert seen == [2]


def test_few_parts_are_computed_here(threads):
    names = side_by_side(lambda part: threading.current_thread(), [1])
    assert list(names) == [threading.current_thread()]


def test_an_error_ends_it(threads):
    with pytest.raises(ZeroDivisionError):
        list(side_by_side(lambda part: 1 // part, [1, 0, 1]))
    assert list(side_by_side(lambda part: part, [1, 2])) == [1, 2]


def test_after_an_error_nothing_runs_on(threads):
    running = threading.Semaphore(0)
    ended = []

    def work(part):
        if part == 0:
            assert running.acquire(timeout=30)
            raise MemoryError
        running.release()
        time.sleep(0.2)
        ended.append(part)

    with pytest.raises(MemoryError):
        list(side_by_side(work, [0, 1]))
    assert ended == [1]


def test_a_pool_that_starts_nothing_any_more_is_done_without(threads, monkeypatch):
    # As every pool once the main thread has ended, while another thread goes on.
    closed = ThreadPoolExecutor(2)
    closed.shutdown()
    monkeypatch.setattr(workers, "_pools", {2: closed})
    assert list(side_by_side(lambda part: part * 2, range(4))) == [0, 2, 4, 6]
    assert torch.get_num_threads() == 2
    assert isinstance(begun(closed, lambda: 1 // 0).exception(), ZeroDivisionError)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_a_pool_of_its_own(threads):
    list(side_by_side(lambda part: part, range(4)))
    child = os.fork()
    if child == 0:
        torch.set_num_threads(2)
        os._exit(0 if list(side_by_side(lambda part: part, range(4))) == [0, 1, 2, 3] else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(("total", "size"), [(500, 1000), (1001, 501), (2000, 1000), (4500, 750)])
def test_parts_are_even(threads, total, size):
    assert even(total, 1000) == (size if total > 1000 else 1000)


def test_parts_are_large_where_there_is_little_for_many_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert even(1001, 1000) == 1000
    assert even(64 * 300, 1000) == 300
