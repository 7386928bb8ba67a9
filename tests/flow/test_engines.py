"""Precision, budget, threads, and encoders whose output depends on padding."""

import os
import threading

import numpy as np
import pytest
import torch
from transformers import CanineConfig, CanineModel, FNetConfig, FNetModel, FunnelConfig, FunnelModel

from trfnb.flow.engines import (
    PaddedEngine,
    Runtime,
    even_size,
    keep_freed_memory,
    native_bf16,
    parallel_map,
)
from trfnb.flow.wordpieces import Wordpieces


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield 2
    torch.set_num_threads(before)


def test_auto_is_native_or_exact():
    cpu = torch.device("cpu")
    assert Runtime("auto").precision_on(cpu) == ("bf16" if native_bf16(cpu) else "fp32")
    assert Runtime("fp16").precision_on(cpu) == "fp16"
    assert isinstance(keep_freed_memory(), bool)
    with pytest.raises(ValueError, match="precision expected one of fp32, bf16, fp16, auto, got"):
        Runtime(precision="int4")
    with pytest.raises(ValueError, match="at least 1 wordpiece"):
        Runtime(max_batch_items=0)


def fnet():
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 32}
    return FNetModel(FNetConfig(vocab_size=50, **sizes))


def funnel():
    sizes = {"d_model": 16, "n_head": 2, "d_head": 8, "d_inner": 32}
    return FunnelModel(FunnelConfig(vocab_size=50, block_sizes=[1, 1], **sizes))


def canine():
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return CanineModel(CanineConfig(intermediate_size=32, local_transformer_stride=8, **sizes))


def pieces(lengths):
    zeros = np.zeros(len(lengths), "int64")
    ids = np.random.default_rng(0).integers(5, 50, sum(lengths))
    return Wordpieces(ids, np.zeros((len(ids), 2), "int64"), np.asarray(lengths), zeros)


@pytest.mark.parametrize("make", [fnet, funnel, canine])
def test_a_text_alone_and_beside_a_longer_one(make):
    torch.manual_seed(0)
    engine = PaddedEngine(make().eval(), 0, attentions=False)
    n_layers = engine.body.config.num_hidden_layers
    flat = pieces([8, 12, 8])
    found = torch.zeros(len(flat.ids), 16)
    for part in engine.run(flat, np.arange(3), [n_layers], Runtime(), False):
        found[part.rows] = part.states[n_layers]
    (alone,) = engine.run(flat, np.asarray([2]), [n_layers], Runtime(), False)
    torch.testing.assert_close(found[20:], alone.states[n_layers], atol=1e-5, rtol=1e-5)


def test_padding_counts_is_found_by_a_trial(tiny):
    from transformers import AutoModel

    assert PaddedEngine(fnet().train(), 0, attentions=False).padding_counts
    assert not PaddedEngine(AutoModel.from_pretrained(tiny), 0, attentions=False).padding_counts


def test_layers_of_several_lengths_are_refused():
    body = FunnelModel(
        FunnelConfig(vocab_size=50, block_sizes=[2, 2], d_model=16, n_head=2, d_head=8, d_inner=32)
    )
    with pytest.raises(ValueError, match=r"\(funnel\) have several lengths. Read its last layer"):
        list(PaddedEngine(body, 0, False).run(pieces([8]), np.arange(1), [1, 4], Runtime(), False))


def test_results_come_in_order_from_threads_that_use_one_thread_each(threads):
    def work(item):
        return item, torch.get_num_threads(), threading.current_thread().name

    found = list(parallel_map(work, range(6)))
    assert [item for item, *_ in found] == list(range(6))
    assert {n for _, n, _ in found} == {1}
    assert all(name.startswith("trfnb-pass") for *_, name in found)
    seen = []
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert [*seen, torch.get_num_threads()] == [2, 2]
    names = parallel_map(lambda item: threading.current_thread(), [1])
    assert list(names) == [threading.current_thread()], "few items are computed here"


def test_after_an_error_nothing_runs_on(threads):
    running, released, ended = threading.Semaphore(0), threading.Event(), []

    def work(item):
        if item == 0:
            assert running.acquire(timeout=30)
            released.set()
            raise MemoryError
        running.release()
        assert released.wait(30)
        ended.append(item)

    with pytest.raises(MemoryError):
        list(parallel_map(work, [0, 1]))
    assert ended == [1]
    assert list(parallel_map(lambda item: item, [1, 2])) == [1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_computes_in_one_thread(threads):
    list(parallel_map(lambda item: item, range(4)))
    child = os.fork()
    if child == 0:
        one = torch.get_num_threads() == 1
        os._exit(0 if one and list(parallel_map(lambda i: i, range(4))) == [0, 1, 2, 3] else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(("total", "size"), [(500, 1000), (1001, 501), (2000, 1000), (4500, 750)])
def test_parts_are_even(threads, total, size):
    assert even_size(total, 1000) == size


def test_parts_are_large_where_there_is_little_for_many_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert even_size(1001, 1000) == 1000
    assert even_size(64 * 300, 1000) == 300
