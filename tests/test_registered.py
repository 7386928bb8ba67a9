"""Everything that is registered travels to processes that are started afresh, not forked."""

import inspect
import json
import pickle
import subprocess
import sys

import pytest
import spacy
from thinc.api import reduce_mean

import trfnb.registration  # noqa: F401  registers
from trfnb.flow.grad_factor import GradFactor
from trfnb.flow.spans import StridedSpans, TokenWindows
from trfnb.pipe.architectures import registry
from trfnb.pipe.pieces import piece_encoder_v1, refused_v1
from trfnb.pretraining.masking import SpanMask

TOK2VEC = {"@architectures": "spacy.HashEmbedCNN.v2", "width": 8, "depth": 1, "embed_size": 50}
TOK2VEC |= {"window_size": 1, "maxout_pieces": 2, "subword_features": False}
TOK2VEC["pretrained_vectors"] = None
# What the functions ask for that have no default, by the argument's name.
GIVEN = {
    "width": 8,
    "names": ["tagger"],
    "frozen": 2,
    "starts": [0, 5],
    "factors": [1.0, 0.5],
    "tokenizer_config": {},
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    **dict.fromkeys(("attention_probs_dropout_prob", "hidden_dropout_prob"), 0.1),
    **dict.fromkeys(("vocab_size", "hidden_width", "intermediate_width", "model_max_length"), 16),
    **dict.fromkeys(("max_position_embeddings", "num_attention_heads", "num_hidden_layers"), 2),
    **dict.fromkeys(("padding_idx", "type_vocab_size", "num_layers"), 1),
}
SEVERAL = {"trfnb.MixedMask.v1": [SpanMask()]}
READ = """
import json, pickle, sys
found = {}
for name, content in pickle.load(sys.stdin.buffer).items():
    try:
        found[name] = type(pickle.loads(content)).__name__
    except Exception as error:
        found[name] = repr(error)
print(json.dumps(found))
"""


def needed(function):
    """The names of the arguments that must be given."""
    settings = inspect.signature(function).parameters.values()
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [one.name for one in settings if one.default is one.empty and one.kind not in several]


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("registered") / "texts.jsonl"
    records = [{"text": f"rates rose by {i}", "label": "AB"[i % 2]} for i in range(40)]
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    tok2vec = registry.resolve({"it": TOK2VEC})["it"]
    given = {"name": tiny, "path": path, "text": path, "sources": {"one": str(path)}, **GIVEN}
    given |= {"get_spans": StridedSpans(), "with_spans": TokenWindows(), "pooling": reduce_mean()}
    given |= {"piece_encoder": piece_encoder_v1(), "tok2vec": tok2vec}
    given["embed"] = registry.architectures.get("trfnb.StaticVectors.v1")(width=8)
    objects = {}
    for kind in registry.get_registry_names():
        for name, function in getattr(registry, kind).get_all().items():
            theirs = not (getattr(function, "__module__", None) or "").startswith("trfnb")
            if theirs or kind == "factories" or function is refused_v1:
                continue
            settings = {one: given[one] for one in needed(function)}
            one = function(*SEVERAL.get(name, ()), **settings)
            # A schedule is a generator, as Thinc's are, and travels as the factor that it is for.
            objects[f"{kind} {name}"] = GradFactor(one) if kind == "schedules" else one
    for factory in ("trfnb_transformer", "trfnb_tok2vec"):
        objects[factory] = spacy.blank("en").add_pipe(factory)
    return objects


def test_everything_registered_is_there(made):
    kinds = {name.split()[0] for name in made}
    assert {"architectures", "balancers", "callbacks", "schedules", "optimizers"} <= kinds
    assert {"misc", "readers", "span_getters", "annotation_setters", "vectors"} <= kinds


def test_everything_is_read_by_a_process_started_afresh(made):
    pickled = {name: pickle.dumps(one) for name, one in made.items()}
    ran = subprocess.run(
        [sys.executable, "-c", READ], input=pickle.dumps(pickled), capture_output=True, check=True
    )
    assert json.loads(ran.stdout) == {name: type(one).__name__ for name, one in made.items()}
