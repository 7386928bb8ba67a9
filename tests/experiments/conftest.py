import pytest
from tiny_corpus import TinyCorpus


@pytest.fixture(scope="session")
def corpus() -> TinyCorpus:
    return TinyCorpus()
