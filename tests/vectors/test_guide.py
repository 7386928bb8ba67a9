"""The guide's own layers run through ``spacy train --code``."""

from pathlib import Path

import pytest
import spacy
from spacy.cli._util import import_code
from spacy.cli.init_config import fill_config
from spacy.cli.train import train
from spacy.tokens import DocBin

from trfnb.vectors import convert

from .tables import table, write_text

CODE = Path(__file__).parents[2] / "notebooks" / "custom_embeddings.py"
WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "dogs", "bark", "loud"]
EMBED = {
    "MyEmbedding": '@architectures = "my_example.MyEmbedding.v1"\noutput_width = 16',
    "MyCustomVectors": '@architectures = "my_example.MyCustomVectors.v1"\noutput_width = 16\n'
    "vector_width = 7\nembed_rows = 6\n[components.tagger.model.tok2vec.embed.key2row]\n"
    '@misc = "trfnb.key2row.v1"\ncorpus = ${paths.train}\nrows = 6',
    "MultiHashEmbed": '@architectures = "spacy.MultiHashEmbed.v1"\nwidth = 16\nattrs = ["NORM"]\n'
    "rows = [50]\ninclude_static_vectors = true",
    "early MultiHashEmbed": '@architectures = "trfnb.MultiHashEmbed.v1"\nwidth = 16\nrows = 50\n'
    "also_embed_subwords = true\nalso_use_static_vectors = true",
}
CONFIG = """
[paths]
train = null
vectors = null
[nlp]
lang = "en"
pipeline = ["tagger"]
[components]
[components.tagger]
factory = "tagger"
[components.tagger.model]
@architectures = "spacy.Tagger.v2"
[components.tagger.model.tok2vec]
@architectures = "spacy.Tok2Vec.v2"
[components.tagger.model.tok2vec.encode]
@architectures = "spacy.MaxoutWindowEncoder.v2"
width = 16
depth = 1
window_size = 1
maxout_pieces = 2
[components.tagger.model.tok2vec.embed]
{embed}
[corpora]
[corpora.train]
@readers = "spacy.Corpus.v1"
path = ${{paths.train}}
[corpora.dev]
@readers = "spacy.Corpus.v1"
path = ${{paths.train}}
[training]
max_steps = 40
eval_frequency = 20
[initialize]
vectors = ${{paths.vectors}}
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with a corpus and a table of its words."""
    nlp = spacy.blank("en")
    docs = []
    for start in range(6):
        words = WORDS[start : start + 5]
        tags = ["LONG" if len(word) > 3 else "SHORT" for word in words]
        docs.append(spacy.tokens.Doc(nlp.vocab, words=words, tags=tags))
    DocBin(docs=docs * 5).to_disk(tmp_path / "train.spacy")
    convert(write_text(tmp_path / "v.vec", WORDS, table(len(WORDS))), tmp_path / "table")
    return tmp_path


def check(folder):
    """Open what was trained, where the corpus is no more."""
    (folder / "train.spacy").unlink()
    trained = spacy.load(folder / "out" / "model-last")
    assert {t.tag_ for t in trained("the cat sat")} <= {"LONG", "SHORT"}
    assert trained.meta["performance"]["tag_acc"] > 0.5


@pytest.mark.parametrize("name", EMBED)
def test_trains_by_config(name, folder):
    """As the commands do it: the code, what the config leaves out, the training."""
    import_code(CODE)
    (folder / "config.cfg").write_text(CONFIG.format(embed=EMBED[name]))
    fill_config(folder / "config.cfg", folder / "config.cfg", silent=True)
    paths = {"paths.train": str(folder / "train.spacy"), "paths.vectors": str(folder / "table")}
    train(folder / "config.cfg", folder / "out", overrides=paths)
    check(folder)
