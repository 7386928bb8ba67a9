import pytest
from small_runs import text

import trfnb.registration  # noqa: F401  what the configs name


@pytest.fixture
def lines(tmp_path):
    return text(tmp_path)
