"""The guide's own layers run through ``spacy train --code``."""

import subprocess
import sys
from pathlib import Path

import pytest
import spacy
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


@pytest.mark.slow
@pytest.mark.parametrize("name", EMBED)
def test_trains_by_config(name, tmp_path):
    nlp = spacy.blank("en")
    docs = []
    for start in range(6):
        words = WORDS[start : start + 5]
        tags = ["LONG" if len(word) > 3 else "SHORT" for word in words]
        docs.append(spacy.tokens.Doc(nlp.vocab, words=words, tags=tags))
    DocBin(docs=docs * 5).to_disk(tmp_path / "train.spacy")
    convert(write_text(tmp_path / "v.vec", WORDS, table(len(WORDS))), tmp_path / "table")
    (tmp_path / "config.cfg").write_text(CONFIG.format(embed=EMBED[name]))
    command = [sys.executable, "-m", "spacy", "train", "config.cfg", "--code", str(CODE)]
    command += ["--output", "out", "--paths.train", "train.spacy", "--paths.vectors", "table"]
    filled = subprocess.run(
        [sys.executable, "-m", "spacy", "init", "fill-config", "config.cfg", "config.cfg",
         "--code", str(CODE)],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert filled.returncode == 0, filled.stdout + filled.stderr
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    import importlib.util

    spec = importlib.util.spec_from_file_location("custom_embeddings", CODE)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    (tmp_path / "train.spacy").unlink()
    trained = spacy.load(tmp_path / "out" / "model-last")
    assert {t.tag_ for t in trained("the cat sat")} <= {"LONG", "SHORT"}
    assert trained.meta["performance"]["tag_acc"] > 0.5
