import gzip

import pytest
from small_runs import text

from trfnb.pretraining.forecast import Forecast, characters_of
from trfnb.pretraining.settings import LoopSettings
from trfnb.pretraining.stream import Position


@pytest.mark.parametrize(
    ("loop", "epochs", "characters", "expected"),
    [
        ({"max_steps": 70}, 1000, 0, 70),
        ({"max_seconds": 100}, 0, 0, 100),
        ({"max_steps": 70, "max_seconds": 30}, 0, 0, 30),
        # Ten updates came from two shards and a half of twenty.
        ({"shard_size": 100}, 1, 2000, 80),
        ({"shard_size": 100}, 2, 2000, 160),
        ({}, 1000, 0, None),
        ({}, 0, 2000, None),
    ],
)
def test_the_first_end_counts(loop, epochs, characters, expected):
    made = Forecast(LoopSettings(**loop), epochs, characters)
    assert made.updates(10, 10.0, Position(0, 2, 1)) == expected


def test_a_whole_pass_tells_how_long_the_text_is():
    made = Forecast(LoopSettings(), 3)
    made.pass_ended(Position(0, 3, 5))
    assert made.updates(24, 1.0, Position(1, 1, 2)) == round(24 * 3 / (1 + 1.5 / 4))


def test_the_size_of_a_text(tmp_path):
    path = text(tmp_path)
    size = path.stat().st_size
    assert characters_of(path) == size
    (tmp_path / "text.txt.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert characters_of(tmp_path / "text.txt.gz") == size
    assert characters_of(tmp_path) == 2 * size
    (tmp_path / "a.spacy").touch()
    assert characters_of(tmp_path) == 0
