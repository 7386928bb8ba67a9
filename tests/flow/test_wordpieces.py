import os
import pickle
import threading
import time
from types import SimpleNamespace

import pytest
from transformers import AutoTokenizer

from trfnb.flow.wordpieces import encode, max_wordpieces


@pytest.fixture(scope="module")
def tokenizer(tiny):
    return AutoTokenizer.from_pretrained(tiny)


def test_ids_offsets_and_lengths(tokenizer):
    pieces = encode(tokenizer, ["the bank", "", "unable"])
    assert pieces.lengths.tolist() == [4, 0, 4]
    words = tokenizer.convert_ids_to_tokens(pieces.ids.tolist())
    assert words == ["[CLS]", "the", "bank", "[SEP]", "[CLS]", "un", "##able", "[SEP]"]
    assert pieces.offsets[:4].tolist() == [[0, 0], [0, 3], [4, 8], [0, 0]]
    assert pieces.truncated.tolist() == [0, 0, 0]


def test_a_part_of_wordpieces_that_were_written_out_has_its_own_texts(tokenizer):
    pieces = pickle.loads(pickle.dumps(encode(tokenizer, ["the bank", "unable"])))
    assert pieces.part(1, 2).strings == [["[CLS]", "un", "##able", "[SEP]"]]


def test_what_is_cut_off_is_counted_and_the_end_mark_stays(tokenizer):
    pieces = encode(tokenizer, ["the bank in the river", "paris"], max_length=4)
    assert pieces.lengths.tolist() == [4, 3]
    assert pieces.truncated.tolist() == [3, 0]
    words = tokenizer.convert_ids_to_tokens(pieces.ids[:4].tolist())
    assert words == ["[CLS]", "the", "bank", "[SEP]"]


@pytest.mark.parametrize(
    ("limit", "config", "expected"),
    [
        (512, {"model_type": "bert", "max_position_embeddings": 512}, 512),
        (10**30, {"model_type": "bert", "max_position_embeddings": 512}, 512),
        (10**30, {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        (10**30, {"model_type": "deberta-v2", "max_position_embeddings": -1}, None),
        (10**30, {"model_type": "t5"}, None),
        (128, {"model_type": "t5"}, 128),
    ],
)
def test_how_much_a_model_reads(limit, config, expected):
    tokenizer = SimpleNamespace(model_max_length=limit)
    assert max_wordpieces(tokenizer, SimpleNamespace(**config)) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_waits_for_a_tokenizer_that_runs_in_another_thread():
    begun, ended = threading.Event(), []

    class Slow:
        is_fast = True
        convert_ids_to_tokens = None

        def __call__(self, texts, **options):
            begun.set()
            time.sleep(0.2)
            ended.append(texts)
            return {"input_ids": [[1]], "offset_mapping": [[(0, 3)]]}

    other = threading.Thread(target=encode, args=(Slow(), ["the"]))
    other.start()
    assert begun.wait(30)
    child = os.fork()
    if child == 0:
        encode(Slow(), ["the"])
        os._exit(0 if len(ended) == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0
    other.join()
