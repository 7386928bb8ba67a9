"""Texts and configs so small that a run takes a second."""

import copy
import random
from pathlib import Path

from thinc.api import Config

NAMES = ["Ada", "Grace", "Alan", "Edsger"]
PLACES = ["Oslo", "Lima", "Cairo", "Perth"]
VERBS = ["left", "won", "sold", "scored", "taxed"]
NOUNS = ["ships", "games", "banks", "plans"]

TOK2VEC = {
    "@architectures": "spacy.HashEmbedCNN.v2",
    "width": 16,
    "depth": 2,
    "embed_size": 100,
    "window_size": 1,
    "maxout_pieces": 2,
    "subword_features": True,
    "pretrained_vectors": None,
}
CHARACTERS = {"@architectures": "trfnb.PretrainCharacters.v1", "hidden_size": 16}
BATCHER = {
    "@batchers": "spacy.batch_by_words.v1",
    "size": 150,
    "discard_oversize": False,
    "tolerance": 0.2,
    "get_length": None,
}
LOOP = {
    "eval_every": 5,
    "log_every": 5,
    "save_every": 4,
    "dev_words": 100,
    "shard_size": 3000,
    "max_steps": 20,
}


def sentence(rng: random.Random) -> str:
    name, place = rng.choice(NAMES), rng.choice(PLACES)
    return f"{name} {rng.choice(VERBS)} the {rng.choice(NOUNS)} of {place}, didn't she?"


def text(folder: Path, lines: int = 300, name: str = "text.txt") -> Path:
    rng = random.Random(0)
    path = folder / name
    path.write_text("\n".join(sentence(rng) for _ in range(lines)) + "\n", encoding="utf8")
    return path


def config(path, objective=None, tok2vec=None, **loop) -> Config:
    model = copy.deepcopy(tok2vec or TOK2VEC)
    return Config(
        {
            "nlp": {"lang": "en", "pipeline": ["tok2vec"]},
            "components": {"tok2vec": {"factory": "tok2vec", "model": model}},
            "corpora": {"pretrain": {"@readers": "trfnb.RawText.v1", "path": str(path)}},
            "pretraining": {
                "max_epochs": 50,
                "objective": copy.deepcopy(objective or CHARACTERS),
                "batcher": copy.deepcopy(BATCHER),
            },
            "pretraining_loop": {**LOOP, **loop},
        }
    )
