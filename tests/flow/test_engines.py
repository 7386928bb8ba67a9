"""Precision, budget, threads, and encoders whose output depends on padding."""

import copy
import os
import pickle
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    CanineConfig,
    CanineModel,
    FNetConfig,
    FNetModel,
    FunnelConfig,
    FunnelModel,
)

from trfnb.flow import engines as engines_module
from trfnb.flow.batching import Request
from trfnb.flow.encoder import EncoderShim, encoder
from trfnb.flow.engines import CompiledEngine, EngineError, Engines, PaddedEngine
from trfnb.flow.runtime import Runtime, keep_freed_memory, native_bf16
from trfnb.flow.wordpieces import Wordpieces, encode

CPU = torch.device("cpu")
EXACT = Runtime()


def test_auto_is_native_or_exact():
    assert Runtime("auto").precision_on(CPU) == ("bf16" if native_bf16(CPU) else "fp32")
    assert Runtime("fp16").precision_on(CPU) == "fp16"
    assert isinstance(keep_freed_memory(), bool)
    with pytest.raises(
        ValueError, match=r"precision\n  Input should be 'fp32', .* input_value='int4'"
    ):
        Runtime(precision="int4")
    with pytest.raises(
        ValueError, match=r"engine\n  Input should be 'torch', .* input_value='onnx'"
    ):
        Runtime(engine="onnx")
    with pytest.raises(ValueError, match="max_batch_items\n  Input should be greater than 0"):
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
    return Wordpieces(ids, np.zeros((len(ids), 2), "int64"), np.asarray(lengths, "int64"), zeros)


@pytest.mark.parametrize("make", [fnet, funnel, canine])
def test_a_text_alone_and_beside_a_longer_one(make):
    torch.manual_seed(0)
    engine = PaddedEngine(make().eval(), 0, attentions=False)
    n_layers = engine.hf_model.config.num_hidden_layers
    flat = pieces([8, 12, 8])
    found = torch.zeros(len(flat.ids), 16)
    for part in engine.run(Request(flat, np.arange(3), [n_layers], Runtime())):
        found[part.rows] = part.states[n_layers]
    (alone,) = engine.run(Request(flat, np.asarray([2]), [n_layers], Runtime()))
    torch.testing.assert_close(found[20:], alone.states[n_layers], atol=1e-5, rtol=1e-5)


def test_padding_counts_is_found_by_a_trial(tiny):
    assert PaddedEngine(fnet().train(), 0, attentions=False).padding_counts
    assert not PaddedEngine(AutoModel.from_pretrained(tiny), 0, attentions=False).padding_counts


def test_layers_of_several_lengths_are_refused():
    hf_model = FunnelModel(
        FunnelConfig(vocab_size=50, block_sizes=[2, 2], d_model=16, n_head=2, d_head=8, d_inner=32)
    )
    with pytest.raises(ValueError, match=r"\(funnel\) have several lengths .* Read its last layer"):
        list(
            PaddedEngine(hf_model, 0, False).run(
                Request(pieces([8]), np.arange(1), [1, 4], Runtime())
            )
        )


@pytest.mark.parametrize("make", [fnet, canine])
def test_attentions_that_an_encoder_has_not(make):
    engine = PaddedEngine(make(), 0, attentions=True)
    with pytest.raises(
        ValueError, match=r"attentions = true expected .* \((fnet|canine)\) have none"
    ):
        list(
            engine.run(
                Request(
                    pieces([8]), np.arange(1), [engine.hf_model.config.num_hidden_layers], Runtime()
                )
            )
        )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_computes_in_one_thread():
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.get_num_threads() == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0


def asked(flat, layers, runtime=EXACT, is_train=False):
    return Request(flat, np.arange(len(flat.lengths)), layers, runtime, is_train)


def states_of(engine, flat, layers, width, runtime=EXACT):
    found = {layer: torch.zeros(len(flat.ids), width) for layer in layers}
    for part in engine.run(asked(flat, layers, runtime)):
        for layer, rows in part.states.items():
            found[layer][part.rows] = rows
    return found


TEXTS = ["The bank by the river was flooded in April.", "Unbelievable!", "", "A b c d. " * 3]


@pytest.fixture
def bert(tiny):
    pytest.importorskip("openvino")
    flat = encode(AutoTokenizer.from_pretrained(tiny), TEXTS, 48)
    return AutoModel.from_pretrained(tiny).eval(), flat


def test_openvino_computes_what_torch_does(minilm):
    pytest.importorskip("openvino")
    flat = encode(AutoTokenizer.from_pretrained(minilm), TEXTS, 48)
    hf_model = AutoModel.from_pretrained(minilm).eval()
    own = Engines(hf_model, 0, attentions=False)
    torch_states = states_of(own.packed, flat, [0, 3, 6], 384)
    for precision in ("fp32", "bf16"):
        compiled = own.compiled((0, 3, 6), precision)
        found = states_of(compiled, flat, [0, 3, 6], 384, Runtime(precision))
        for layer, expected in torch_states.items():
            if precision == "fp32":
                torch.testing.assert_close(found[layer], expected, atol=3e-5, rtol=1e-4)
            cosine = torch.nn.functional.cosine_similarity(found[layer], expected, dim=-1)
            assert cosine.min() > 0.998


WIDTH, LONGEST = 32, 24
SIZES = {
    "vocab_size": 50,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "initializer_range": 0.4,
}
KINDS = {
    "deberta-v2": {
        "max_position_embeddings": LONGEST,
        "relative_attention": True,
        "position_buckets": 8,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
    },
    "modernbert": {"max_position_embeddings": LONGEST, "local_attention": 8, "pad_token_id": 0},
    "distilbert": {"max_position_embeddings": LONGEST},
    "mpnet": {"max_position_embeddings": LONGEST + 2},
    "xlm-roberta": {"max_position_embeddings": LONGEST + 2},
    "electra": {"max_position_embeddings": LONGEST, "embedding_size": 16},
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_encoder_computes_the_same_through_openvino(kind):
    pytest.importorskip("openvino")
    torch.manual_seed(0)
    sizes = {AutoConfig.for_model(kind).attribute_map.get(k, k): v for k, v in SIZES.items()}
    hf_model = AutoModel.from_config(AutoConfig.for_model(kind, **sizes, **KINDS[kind])).eval()
    own = Engines(hf_model, int(hf_model.config.pad_token_id or 0), attentions=False)
    # Another number of texts, and other lengths, than the example that the model is traced by.
    flat, by_torch = pieces([LONGEST, 3, 7, 21, 1]), own.packed or own.padded
    runtime = Runtime(engine="openvino")

    engine = own.choose(asked(flat, [1, 2], runtime))
    assert own.report == 'OpenVINO in fp32 (engine = "openvino")'
    found, expected = (states_of(one, flat, [1, 2], WIDTH) for one in (engine, by_torch))
    for layer in (1, 2):
        torch.testing.assert_close(found[layer], expected[layer], atol=1e-4, rtol=1e-4)


def test_a_changed_weight_is_compiled_again(bert):
    hf_model, flat = copy.deepcopy(bert[0]), bert[1]
    own = Engines(hf_model, 0, attentions=False)
    before = own.compiled((3,), "fp32")
    assert own.compiled((3,), "fp32") is before
    hf_model.encoder.layer[2].output.dense.weight.data[7, 11] += 40.0
    after = states_of(own.compiled((3,), "fp32"), flat, [3], 16)[3]
    assert (after - states_of(before, flat, [3], 16)[3]).abs().max() > 0.1
    expected = states_of(Engines(hf_model, 0, attentions=False).packed, flat, [3], 16)[3]
    torch.testing.assert_close(after, expected, atol=3e-5, rtol=1e-4)


def test_checkpointing_ends_when_it_is_set_off(bert):
    hf_model, flat = copy.deepcopy(bert[0]), bert[1]
    engine = Engines(hf_model, 0, attentions=False).padded
    for wanted in (True, False):
        runtime = Runtime(checkpointing=wanted)
        list(engine.run(asked(flat, [3], runtime, is_train=True)))
        on = [getattr(one, "gradient_checkpointing", False) for one in hf_model.modules()]
        assert any(on) is wanted


def test_a_compiled_model(bert, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    own, read = Engines(bert[0], 0, attentions=False), []
    digest = engines_module.weights_digest
    monkeypatch.setattr(engines_module, "weights_digest", lambda ts: read.append(1) or digest(ts))
    request = asked(bert[1], [3], Runtime(engine="openvino"))
    compiled = own.choose(request)
    assert sum(len(part.rows) for part in compiled.run(request)) == len(bert[1].ids)
    assert len(read) == 1  # all weights, once a call
    # Blocks side by side are told apart, and so are those of two threads.
    assert compiled.streams == 2
    runtime = Runtime(max_batch_items=8)
    for texts in (0, 1, 9):
        flat = pieces([6, 5, 0, 5, 4, 7, 1, 2, 5][:texts])
        both = (states_of(engine, flat, [3], 16, runtime)[3] for engine in (compiled, own.packed))
        torch.testing.assert_close(*both, atol=3e-5, rtol=1e-4)
    alone = states_of(compiled, flat, [3], 16)[3]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: states_of(compiled, flat, [3], 16)[3], range(8)))
    assert all(torch.equal(one, alone) for one in found)


def test_auto_waits_until_compiling_is_worth_it_and_training_starts_anew(bert, monkeypatch):
    own, flat = Engines(bert[0], 0, attentions=False), bert[1]

    def chosen(runtime=EXACT, is_train=False):
        return own.choose(asked(flat, [3], runtime, is_train))

    assert chosen() is own.packed
    assert "too little to encode" in own.report
    monkeypatch.setattr(engines_module, "_WORTH_A_CALL", 1)
    monkeypatch.setattr(engines_module, "_WORTH_COMPILING", 2 * len(flat.ids))
    compiled = chosen()
    assert isinstance(compiled, CompiledEngine)
    assert own.report == 'OpenVINO in fp32 (engine = "auto")'
    assert chosen(is_train=True) is own.packed
    assert own.report == "torch over packs (training)"
    assert chosen() is own.packed
    assert chosen(Runtime(engine="torch")) is own.packed
    assert chosen(Runtime("fp16")) is own.packed
    assert chosen(Runtime(engine="openvino")) is compiled


def test_an_encoder_that_ran_is_pickled_and_copied(tiny):
    shim = EncoderShim(tiny)
    shim.load()
    pieces = encode(shim.tokenizer, ["the bank"], 48)
    layer = encoder(shim, Runtime(engine="openvino"))
    before = layer.predict((pieces, [2]))[0][2]
    for other in (pickle.loads(pickle.dumps(shim)), shim.copy()):
        found = encoder(other, Runtime(engine="torch")).predict((pieces, [2]))[0][2]
        np.testing.assert_allclose(found, before, atol=3e-5)


def test_ctrl_c_in_a_conversion_is_no_failure_of_the_encoder():
    @engines_module.converting("cannot convert")
    def convert(interrupted):
        try:
            if interrupted:
                signal.getsignal(signal.SIGINT)(signal.SIGINT, None)  # as Ctrl-C calls it
        except KeyboardInterrupt:
            pass
        raise RuntimeError("Check 'false' failed")  # OpenVINO says no more of a Ctrl-C

    # A shell's background job ignores Ctrl-C from the start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            convert(interrupted=True)
        with pytest.raises(EngineError, match=r"cannot convert \(RuntimeError: Check"):
            convert(interrupted=False)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_openvino_cannot_run_stays_with_torch_and_is_told(monkeypatch):
    pytest.importorskip("openvino")
    own = Engines(canine().eval(), 0, attentions=False)
    monkeypatch.setattr(engines_module, "_WORTH_A_CALL", 0)
    monkeypatch.setattr(engines_module, "_WORTH_COMPILING", 0)
    monkeypatch.setattr(own.padded, "layer", lambda output, layer, ids: output.no_such_thing)
    flat = pieces([8])
    assert own.choose(asked(flat, [1])) is own.padded
    assert "OpenVINO cannot convert this model (AttributeError" in own.report
    with pytest.raises(EngineError, match="cannot convert"):
        own.choose(asked(flat, [1], Runtime(engine="openvino")))
