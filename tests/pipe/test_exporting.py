"""`trfnb export`: another program computes what the pipeline does."""

import re
from importlib.util import find_spec

import numpy as np
import pytest
import spacy
from small_pipelines import LISTENER, examples, initialized, transformer_pipeline
from thinc.api import Adam
from transformers import AutoModel

import trfnb.pipe.exporting as exporting
from trfnb.cli import main
from trfnb.files import atomic_folder

needs_onnx = pytest.mark.skipif(
    not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))),
    reason="pip install 'trfnb[export]'",
)
FORMATS = [pytest.param("onnx", marks=needs_onnx), "openvino", "safetensors"]


def run_readme(folder, monkeypatch):
    """Run the code that the folder's README shows and return what it defines."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    monkeypatch.chdir(folder)
    defined = {}
    exec(code, defined)
    return defined


@pytest.mark.parametrize("to", FORMATS)
def test_what_the_readme_shows_gives_the_pipelines_states(tiny, tmp_path, monkeypatch, capsys, to):
    nlp = transformer_pipeline(tiny)
    nlp.update(examples(nlp), sgd=Adam(0.01))
    nlp.to_disk(tmp_path / "saved")
    command = ["export", str(tmp_path / "saved"), str(tmp_path / "out"), "--to", to]
    assert main(command) == 0
    assert re.search(r"within \S+e-0[5-9] of .* on \d+ wordpieces", capsys.readouterr().out)
    found = run_readme(tmp_path / "out", monkeypatch)
    docs = list(nlp.pipe(["A text.", "Another one."]))
    for states, mask, doc in zip(
        found["states"], found["read"]["attention_mask"], docs, strict=True
    ):
        rows = np.asarray(states)[np.asarray(mask) == 1]
        np.testing.assert_allclose(rows, doc._.trf_data.last_hidden_state[0], atol=1e-4)
    assert main(command) == 2  # it is there already
    assert "a directory that does not exist yet" in capsys.readouterr().err


def test_a_tasks_own_transformer_with_lora_is_merged(tiny, tmp_path):
    pytest.importorskip("peft")
    nlp = spacy.blank("en")
    lora = {"r": 4, "target_modules": ["query", "value"], "init_lora_weights": False}
    shared = {"name": tiny, "lora": lora}
    nlp.add_pipe("trfnb_transformer", name="transformer", config={"model": shared})
    nlp.add_pipe("tagger", config={"model": {"tok2vec": LISTENER}})
    own = {"@architectures": "trfnb.Tok2VecTransformer.v1", **shared}
    nlp.add_pipe("ner", config={"model": {"tok2vec": own}})
    initialized(nlp)
    nlp.to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"got 2: transformer, ner\. Choose"):
        exporting.export(tmp_path / "saved", tmp_path / "out", "safetensors")
    with pytest.raises(ValueError, match=r"in tagger of .* got 0: none"):
        exporting.export(tmp_path / "saved", tmp_path / "out", "safetensors", "tagger")
    apart, _ = exporting.export(tmp_path / "saved", tmp_path / "out", "safetensors", "ner")
    assert apart <= 1e-4
    assert not (tmp_path / "out/adapter").exists()
    merged = AutoModel.from_pretrained(tmp_path / "out").state_dict()
    kept = AutoModel.from_pretrained(tiny).state_dict()
    changed = {name for name in kept if not merged[name].equal(kept[name])}
    assert {name.rpartition("self.")[2] for name in changed} == {"query.weight", "value.weight"}


def test_nothing_is_left_where_something_else_is_computed(tiny, tmp_path, monkeypatch):
    transformer_pipeline(tiny).to_disk(tmp_path / "saved")
    monkeypatch.setitem(exporting._FORMATS, "broken", ([], lambda *_: lambda *_: 1 / 0, ""))
    for to, tolerance, said in (
        ("broken", 1e-4, r"safetensors takes any. \(ZeroDivisionError"),
        ("safetensors", -1.0, r"a difference of .* --tolerance"),
        ("pickle", 1e-4, "a format of onnx, openvino, safetensors"),
    ):
        with pytest.raises(ValueError, match=said):
            exporting.export(tmp_path / "saved", tmp_path / "out", to, tolerance=tolerance)
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_what_is_there_is_never_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    for write in (
        lambda: exporting.export("a_pipeline", tmp_path, "safetensors"),
        lambda: exporting.quantize("a_pipeline", tmp_path, ["a text"]),
    ):
        with pytest.raises(ValueError, match="does not exist yet, got"):
            write()
    assert (tmp_path / "thesis.txt").read_text() == "all of it"
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"does not exist yet, got .*link"):
        exporting.export("a_pipeline", tmp_path / "link", "safetensors")

    @atomic_folder(tmp_path / "out", new="export")
    def somebody_else_is_faster():
        (tmp_path / "out").mkdir()
        (tmp_path / "out/mine.txt").write_text("precious")

    with pytest.raises(ValueError, match="export expected a directory that does not exist yet"):
        somebody_else_is_faster()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    assert not list(tmp_path.glob(".*partial*"))


def test_a_pipeline_without_a_transformer_and_a_missing_package_are_named(tmp_path, monkeypatch):
    nlp = spacy.blank("en")
    nlp.add_pipe("tagger")
    initialized(nlp)
    nlp.to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"\(tagger\), got 0: none.* spaCy's own tok2vec"):
        exporting.export(tmp_path / "saved", tmp_path / "out", "safetensors")
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs openvino: run `pip install 'trfnb\[export\]'"):
        exporting.export(tmp_path / "saved", tmp_path / "out", "openvino")
