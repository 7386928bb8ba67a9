"""`docs/guide.md`: every block runs or resolves, every old setting says what the page says."""

import re
import shlex
from pathlib import Path

import pytest
import spacy
from click import Context
from small_pipelines import transformer_pipeline
from spacy.util import load_model_from_config, registry
from thinc.api import Config
from typer.main import get_command

from trfnb.cli import build_app, main
from trfnb.experiments import build_config

PAGE = (Path(__file__).parents[1] / "docs/guide.md").read_text(encoding="utf8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| `")
]
NAME = re.compile(r"`((?:[\w-]+\.)?\w+\.v\d)`")
KINDS = ("architectures", "layers", "span_getters", "annotation_setters", "misc", "schedules")


def known(name):
    return any(registry.has(kind, name) for kind in KINDS)


@pytest.fixture
def folder(tiny, tmp_path, monkeypatch):
    """A folder with the files that the page speaks of."""
    monkeypatch.chdir(tmp_path)
    transformer_pipeline(tiny).to_disk("my_pipeline")
    for name in ("code.py", "config.cfg", "base.cfg", "small.cfg", "vectors.vec"):
        Path(name).write_text("")
    return tmp_path


def resolved(text):
    """Build the pipeline that a block of a config describes."""
    config = Config().from_str(f'[nlp]\nlang = "en"\npipeline = []\n[components]\n{text}')
    config["nlp"]["pipeline"] = list(config.get("components", {}))
    return load_model_from_config(config, auto_fill=True)


def test_every_python_block_runs_and_every_config_resolves(folder, tiny):
    names = {}
    for kind, text in BLOCKS:
        here = text.replace("sentence-transformers/all-MiniLM-L6-v2", tiny)
        if kind == "python":
            exec(compile(here, "guide.md", "exec"), names)
        elif kind == "ini":
            nlp = resolved(here)
            assert nlp.pipe_names, text
    assert names["nlp"]("the river")._.mean_vector.shape == (16,)
    assert names["token_vectors"].shape[1] == names["last_layer"].shape[2] == 16
    config = Config().from_disk("config.cfg")
    assert config["nlp"]["pipeline"] == ["transformer", "tagger", "ner"]
    doc = spacy.blank("en")("the river bank plans")
    spans = names["configure_custom_sent_spans"]()
    assert spans([doc]) == [[doc[:]]]
    doc[2].is_sent_start = True
    assert [[span.text for span in one] for one in spans([doc])] == [["the river", "bank plans"]]


def test_every_command_takes_its_arguments(folder):
    spacys, ours = get_command(spacy.cli.app), get_command(build_app())
    seen = 0
    for line in "\n".join(text for kind, text in BLOCKS if kind == "bash").splitlines():
        words = shlex.split(line)
        if not words or words[:2] == ["pip", "install"]:
            continue
        command, rest = (ours, words[1:]) if words[0] == "trfnb" else (spacys, words[3:])
        while hasattr(command, "commands"):
            name, *rest = rest
            command = command.commands[name]
        command.parse_args(Context(command, **command.context_settings), rest)
        seen += 1
    assert seen == 8


def test_init_config_writes_what_the_library_builds(folder, tiny):
    command = ["init", "config", "new.cfg", "--pipeline", "tagger,ner", "--encoder", tiny]
    assert main(command) == 0
    config = build_config(["tagger", "ner"], encoder=tiny)
    assert Config().from_disk("new.cfg", interpolate=False) == config
    assert main(command) == 2


def test_the_names_of_today_are_registered():
    for _, today, _ in ROWS:
        for name in NAME.findall(today):
            assert known(name), name
    for old, _, says in ROWS:
        for name in NAME.findall(old):
            assert known(name) or says, name
    for name in set(NAME.findall(PAGE)) - {"custom_sent_spans"}:
        assert known(name) or name.startswith("my_example."), name


TREE = """
[components.ner]
factory = "ner"
[components.ner.model]
@architectures = "spacy.TransitionBasedParser.v2"
state_type = "ner"
extra_state_tokens = false
hidden_width = 64
maxout_pieces = 2
[components.ner.model.tok2vec]
@architectures = "spacy.Tok2Vec.v2"
[components.ner.model.tok2vec.encode]
@architectures = "spacy.MaxoutWindowEncoder.v2"
width = 128
depth = 1
window_size = 1
maxout_pieces = 2
[components.ner.model.tok2vec.embed]
@architectures = "EMBED"
width = 128
rows = 7000
also_embed_subwords = true
also_use_static_vectors = true
"""
OLD = {
    "en_core_trf_lg": lambda: spacy.load("en_core_trf_lg"),
    "import spacy_transformers": lambda: __import__("spacy_transformers"),
    "from spacy_transformers import": lambda: __import__("spacy_transformers"),
    "[nlp.pipeline.ner.model]": lambda: Config().from_str(
        '[nlp]\nlang = "en"\npipeline = ["ner"]\n[nlp.pipeline.ner.model]\nwidth = 1'
    ),
    "[tagger.model.tok2vec.embed]": lambda: resolved("[tagger.model.tok2vec.embed]\nwidth = 128"),
    "nr_feature_tokens": lambda: resolved(
        '[components.ner]\nfactory = "ner"\n[components.ner.model]\n'
        '@architectures = "spacy.TransitionBasedParser.v1"\nnr_feature_tokens = 3'
    ),
    "also_use_static_vectors": lambda: resolved(TREE.replace("EMBED", "spacy.MultiHashEmbed.v1")),
    "MultiHashEmbedCNN": lambda: resolved(TREE.replace("EMBED", "spacy.MultiHashEmbedCNN.v1")),
}


def test_what_old_settings_say():
    told = {old: says.strip("`") for old, _, says in ROWS if says}
    assert len(told) == len(OLD)
    for setting, attempt in OLD.items():
        (says,) = [says for old, says in told.items() if setting in old]
        with pytest.raises((ValueError, OSError, ImportError)) as caught:
            attempt()
        assert says in str(caught.value), caught.value
