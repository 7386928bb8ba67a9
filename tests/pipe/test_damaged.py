"""Every file of a saved pipeline lost, cut, emptied or swapped: an error that names it.

spaCy reads config.cfg and meta.json before there is a pipeline, and people edit them: where they
are damaged, there is an error in spaCy's words, or equal predictions.
"""

import os
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import spacy
import torch
from small_pipelines import LISTENER, initialized

import trfnb.registration  # noqa: F401  registers
from trfnb.pipe.manifest import NOTE
from trfnb.vectors import convert, load

TEXTS = ["Paris meets April in the bank .", "the river", "unable plans of the river bank"]
DAMAGES = {
    "deleted": Path.unlink,
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
}
UNWATCHED = ("config.cfg", "meta.json")
# All of them where the number of mutations is that of a long run.
EVERY = int(os.environ.get("TRFNB_MUTATIONS", "0")) > 1000


def shared(tiny, folder):
    nlp = spacy.blank("xx")
    nlp.add_pipe("trfnb_transformer", name="transformer", config={"model": {"name": tiny}})
    nlp.add_pipe("tagger", config={"model": {"tok2vec": LISTENER}})
    return nlp


def own(tiny, folder):
    nlp = spacy.blank("xx")
    tok2vec = {"@architectures": "trfnb.Tok2VecTransformer.v1", "name": tiny}
    nlp.add_pipe("tagger", config={"model": {"tok2vec": tok2vec}})
    return nlp


def with_table(tiny, folder):
    numbers, table = np.random.default_rng(len(folder.name)).normal(size=(6, 4)), folder / "table"
    words = ["the", "river", "bank", "Paris", "plans", "of"]
    rows = [f"{word} {' '.join(map(str, row))}\n" for word, row in zip(words, numbers, strict=True)]
    (folder / "v.vec").write_text("6 4\n" + "".join(rows))
    convert(folder / "v.vec", table, lang="xx")
    nlp = spacy.blank("xx", config={"nlp": {"vectors": {"@vectors": "trfnb.Vectors.v1"}}})
    load(table, nlp.vocab)
    encode = {"@architectures": "spacy.MaxoutWindowEncoder.v2", "width": 8, "depth": 1}
    encode |= {"window_size": 1, "maxout_pieces": 2}
    embed = {"@architectures": "trfnb.StaticVectors.v1", "width": 8}
    tok2vec = {"@architectures": "spacy.Tok2Vec.v2", "embed": embed, "encode": encode}
    nlp.add_pipe("trfnb_tok2vec", name="tok2vec", config={"model": tok2vec})
    listener = {"@architectures": "trfnb.Tok2VecListener.v1", "width": 8}
    nlp.add_pipe("tagger", config={"model": {"tok2vec": listener}})
    return nlp


KINDS = {made.__name__: made for made in (shared, own, with_table)}


def scores(nlp):
    return [nlp.get_pipe("tagger").model.predict([doc])[0].tolist() for doc in nlp.pipe(TEXTS)]


@cache
def saved(kind, tiny, folder):
    """Two pipelines alike but for their numbers, and what the first predicts."""
    for name, seed in (("a", 1), ("bb", 2)):
        (folder / name).mkdir(parents=True)
        nlp, noise = (
            initialized(KINDS[kind](tiny, folder / name), free=()),
            np.random.default_rng(seed),
        )
        for _, pipe in nlp.pipeline:
            for node in pipe.model.walk():
                for parameter in node.param_names:
                    if node.has_param(parameter):
                        value = node.get_param(parameter)
                        added = noise.normal(scale=0.3, size=value.shape).astype("f4")
                        node.set_param(parameter, value + added)
                for shim in node.shims:
                    for weight in shim.loaded().parameters():
                        added = noise.normal(scale=0.05, size=tuple(weight.shape))
                        weight.data += torch.from_numpy(added).float()
        nlp.to_disk(folder / name / "pipeline")
    first, second = (folder / name / "pipeline" for name in ("a", "bb"))
    expected = scores(spacy.load(first))
    assert expected != scores(spacy.load(second))
    return first, second, expected


def files_of(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_lost_cut_or_empty_is_named(kind, tiny, tmp_path, tmp_path_factory):
    first, _, expected = saved(kind, tiny, tmp_path_factory.getbasetemp() / f"damaged-{kind}")
    for place, file in enumerate(files_of(first)):
        for how in DAMAGES if EVERY else [list(DAMAGES)[place % 3]]:
            copy = shutil.copytree(first, tmp_path / f"{place}{how}")
            DAMAGES[how](copy / file)
            if (copy / file).exists() and (copy / file).read_bytes() == (first / file).read_bytes():
                continue
            told = ""
            try:
                assert scores(spacy.load(copy)) == expected
            except AssertionError:
                raise
            except Exception as error:
                told = str(error)
            unwatched = file.name in UNWATCHED or (file.name == NOTE and how == "deleted")
            assert unwatched or file.as_posix() in told, (file, how, told)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_pipeline_is_named(kind, tiny, tmp_path, tmp_path_factory):
    """Also a task's with all that it needs, which is whole by itself."""
    first, second, _ = saved(kind, tiny, tmp_path_factory.getbasetemp() / f"damaged-{kind}")
    swapped = []
    for place, file in enumerate(files_of(first)):
        other = second / file
        if other.read_bytes() == (first / file).read_bytes() or file.name in (*UNWATCHED, NOTE):
            continue
        copy = shutil.copytree(first, tmp_path / str(place))
        shutil.copy(other, copy / file)
        with pytest.raises(OSError, match=f"saved together, got another {file}: .*{NOTE}"):
            spacy.load(copy)
        swapped.append(file.as_posix())
    weights = {"shared": "transformer/encoder/model.safetensors", "with_table": "vocab/vectors"}
    assert {"tagger/model", weights.get(kind, "tagger/model")} <= {*swapped}


def test_several_files_and_the_reader_s_own_words(tiny, tmp_path, tmp_path_factory):
    first, _, _ = saved("shared", tiny, tmp_path_factory.getbasetemp() / "damaged-shared")
    copy = shutil.copytree(first, tmp_path / "copy")
    shutil.rmtree(copy / "vocab")
    (copy / "tagger/model").write_bytes(b"")
    with pytest.raises(OSError, match=r"got another tagger/model, no vocab/.*\(ValueError: Unpack"):
        spacy.load(copy)


def test_what_is_changed_on_purpose_is_no_damage(tiny, tmp_path):
    nlp = initialized(shared(tiny, tmp_path))
    nlp.add_pipe("sentencizer")
    nlp.to_disk(tmp_path / "one")
    expected = scores(nlp)
    config = tmp_path / "one/config.cfg"
    config.write_text(config.read_text().replace("max_batch_items = 4096", "max_batch_items = 64"))
    for name in ("vocab/strings.json", "tagger/cfg"):  # as git does on Windows
        content = (tmp_path / "one" / name).read_bytes()
        (tmp_path / "one" / name).write_bytes(content.replace(b"\n", b"\r\n"))
    (tmp_path / "one/tagger/README.md").write_text("A tagger.")
    (tmp_path / "one/tagger/.DS_Store").write_text("")
    loaded = spacy.load(tmp_path / "one")
    assert loaded.get_pipe("transformer").max_batch_items == 64
    assert scores(loaded) == expected
    # What is not read may be lost, and what was not written never was there.
    (tmp_path / "one/sentencizer.json").unlink()
    with pytest.raises(OSError, match=r"got no sentencizer\.json: "):
        spacy.load(tmp_path / "one")
    assert scores(spacy.load(tmp_path / "one", exclude=["sentencizer"])) == expected
    loaded.to_disk(tmp_path / "one", exclude=["sentencizer"])
    assert scores(spacy.load(tmp_path / "one", exclude=["sentencizer"])) == expected
    # Whoever means it, says so.
    (tmp_path / "one/tokenizer").unlink()
    with pytest.raises(OSError, match="got no tokenizer: "):
        spacy.load(tmp_path / "one", exclude=["sentencizer"])
    (tmp_path / "one" / NOTE).unlink()
    nlp.tokenizer.to_disk(tmp_path / "one/tokenizer")
    spacy.load(tmp_path / "one", exclude=["sentencizer"])


def test_a_pipeline_without_anything_of_ours_is_saved_as_ever(tiny, tmp_path):
    initialized(shared(tiny, tmp_path)).to_disk(tmp_path / "one")
    assert (tmp_path / "one" / NOTE).exists()
    nlp = spacy.blank("xx")
    nlp.add_pipe("sentencizer")
    nlp.to_disk(tmp_path / "one")
    assert not (tmp_path / "one" / NOTE).exists()
    assert spacy.load(tmp_path / "one").pipe_names == ["sentencizer"]


def test_listeners_may_be_saved_and_moved_without_their_pipeline(tiny, tmp_path):
    """What a listener goes with is looked at where a pipeline is loaded, and nowhere else."""
    nlp = initialized(shared(tiny, tmp_path))
    nlp.to_disk(tmp_path / "one")
    loaded = spacy.load(tmp_path / "one")
    for parameter in loaded.get_pipe("transformer").model.transformer.parameters():
        parameter.data += 0.1
    loaded.to_disk(tmp_path / "two")
    loaded.add_pipe("sentencizer")
    moved = spacy.blank("xx")
    moved.add_pipe("transformer", source=spacy.load(tmp_path / "one"))
    moved.add_pipe("tagger", source=spacy.load(tmp_path / "two"))
    moved.add_pipe("sentencizer")
    moved.from_bytes(loaded.to_bytes())
    assert scores(moved) == scores(spacy.load(tmp_path / "two"))
