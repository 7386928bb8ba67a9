import pytest
import spacy
from small_runs import text
from spacy.training.batchers import configure_minibatch_by_words

from trfnb.pretraining.corruption import texts
from trfnb.pretraining.reader import RawText
from trfnb.pretraining.stream import Position, Stream, held_out, shards

NLP = spacy.blank("en")
BATCHER = configure_minibatch_by_words(size=100, tolerance=0.2, discard_oversize=False)


def stream(path, **options):
    return Stream(NLP, RawText(path), BATCHER, **{"shard_size": 1500, **options})


def words(batches):
    return [(position, [texts(doc) for doc in docs]) for position, docs in batches]


def test_from_any_place_the_same_batches_follow(lines):
    made = stream(lines)
    whole = words(made.batches(Position(), 2))
    assert len({position.shard for position, _ in whole}) > 5
    for i in (0, 3, 10, len(whole) // 2, len(whole) - 2):
        assert words(made.batches(whole[i][0], 2)) == whole[i + 1 :]


def test_epochs_hold_all_text_in_another_order(lines):
    whole = words(stream(lines).batches(Position(), 2))
    first, second = (
        [doc for position, docs in whole if position.epoch == epoch for doc in docs]
        for epoch in (0, 1)
    )
    assert first != second
    assert sorted(first) == sorted(second)
    assert len(first) == 300


def test_without_shuffling_the_order_is_the_texts(lines):
    made = stream(lines, shuffle=False)
    found = [doc for _, docs in words(made.batches(Position(), 1)) for doc in docs]
    assert found == [texts(NLP.make_doc(line)) for line in lines.read_text().splitlines()]


@pytest.mark.slow
def test_workers_change_nothing(lines):
    alone = words(stream(lines).batches(Position(0, 2, 1), 1))
    assert words(stream(lines, workers=2).batches(Position(0, 2, 1), 1)) == alone


def test_text_held_out_is_not_trained_on(lines):
    numbers, pieces = held_out(NLP, RawText(lines), 60)
    assert sum(len(one) for one, _ in pieces) >= 60
    made = stream(lines, held_out=numbers)
    assert sum(len(docs) for _, docs in words(made.batches(Position(), 1))) == 300 - len(numbers)


def test_shards_are_of_about_the_size():
    groups = list(shards(["abc"] * 10, 7, frozenset({0, 1})))
    assert [len(group) for group in groups] == [3, 3, 2]


def test_a_text_that_gives_nothing_is_refused(tmp_path):
    path = text(tmp_path, lines=2)
    made = Stream(NLP, RawText(path, min_length=100), BATCHER)
    with pytest.raises(ValueError, match="got no batch"):
        list(made.batches(Position(), 1))
