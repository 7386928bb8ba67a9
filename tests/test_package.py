"""What is shipped: the wheel, the sdist, the core without the notebook side, packaged pipelines."""

import json
import runpy
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
import spacy
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from small_pipelines import transformer_pipeline
from spacy.cli import package
from test_answer import made

import trfnb

ROOT = Path(__file__).parent.parent
# What torch, transformers or spaCy bring along themselves.
BROUGHT = {"filelock", "jinja2", "yaml"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, unpacked, as it lies where it is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def test_the_wheel_holds_the_package_and_its_corpus(wheel):
    held = {str(path.relative_to(wheel)) for path in wheel.rglob("*") if path.is_file()}
    sources = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "trfnb").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    corpus = {
        f"trfnb/corpora/newsroom/{path.name}" for path in (ROOT / "data/newsroom").glob("*.conllu")
    }
    assert len(corpus) == 3
    assert {one for one in held if ".dist-info/" not in one} == sources | corpus
    (metadata,) = wheel.glob("*.dist-info")
    assert (metadata / "top_level.txt").read_text() == "trfnb\n"
    assert "trfnb = trfnb.cli:main" in (metadata / "entry_points.txt").read_text()


def test_the_core_asks_for_no_notebook_library(wheel):
    (metadata,) = wheel.glob("*.dist-info")
    fields = message_from_string((metadata / "METADATA").read_text(encoding="utf8"))
    assert fields["Version"] == trfnb.__version__
    wanted = [Requirement(text) for text in fields.get_all("Requires-Dist")]
    core = {one.name for one in wanted if one.marker is None}
    assert core == {"spacy", "thinc", "torch", "transformers", "tokenizers", "safetensors", "numpy",
                    "fsspec", "pydantic", "tqdm", "typer"}  # fmt: skip
    for extra in fields.get_all("Provides-Extra"):
        brought, more = set(), [extra]
        while more:
            extra_of = {"extra": more[0]}
            chosen = [one for one in wanted if one.marker and one.marker.evaluate(extra_of)]
            more = more[1:] + [e for one in chosen if one.name == "trfnb" for e in one.extras]
            brought |= {one.name for one in chosen}
        # Weights, sweeps and data sets are for notebooks; the other extras are for pipelines too.
        sides = {"notebooks", "demo", "datasets", "ray", "slurm", "optuna", "test"}
        assert ("jupyterlab" in brought) == (extra in sides), extra


def test_the_sdist_builds_the_same_wheel(wheel, tmp_path):
    (path,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    source = tmp_path / f"trfnb-{trfnb.__version__}"
    assert {"tests", "notebooks", "constraints.txt", "CHANGELOG.md", "README.md"} <= {
        one.name for one in source.iterdir()
    }
    (again,) = WheelBuilder(str(source)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(again) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    assert names == {str(p.relative_to(wheel)) for p in wheel.rglob("*") if p.is_file()}


CORE = """
import json, sys
pipeline, hidden = sys.argv[1], sys.argv[2].split()
sys.modules.update(dict.fromkeys(hidden))  # importing one of them fails now
import spacy, trfnb
from trfnb.cli import main
doc = spacy.load(pipeline)("Paris meets April in the bank .")
said = {}
for name in ("corpora.load", "experiments.compare", "vectors.convert", "widgets.SweepForm"):
    part, _, value = name.partition(".")
    try:
        getattr(getattr(trfnb, part), value)
    except ImportError as error:
        said[name] = str(error)
code = main(["sweep", "night.yml"]), main(["vectors", "convert", "a.vec", "out"])
kept = main(["import-pipeline", "absent", "out"])
print(json.dumps([trfnb.__file__, doc.to_json(), said, code, kept]))
"""


def test_a_pipeline_runs_on_the_core_alone(wheel, tiny, tmp_path):
    nlp = transformer_pipeline(tiny)
    nlp.to_disk(tmp_path / "saved")
    hidden = [name for name in trfnb._NOTEBOOK_SIDE if name not in BROUGHT]
    done = subprocess.run(
        [sys.executable, "-c", CORE, str(tmp_path / "saved"), " ".join(hidden)],
        env={"PYTHONPATH": str(wheel), "OMP_NUM_THREADS": "1", "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    file, doc, said, code, kept = json.loads(done.stdout.splitlines()[-1])
    assert Path(file).is_relative_to(wheel)
    assert doc == nlp("Paris meets April in the bank .").to_json()
    assert len(said) == 4
    assert all("pip install 'trfnb[notebooks]'" in text for text in said.values()), said
    assert code == [2, 2]
    assert done.stderr.count("pip install 'trfnb[notebooks]'") == 2, done.stderr
    assert kept == 2
    assert "Can't find model 'absent'" in done.stderr


def test_a_packaged_pipeline_asks_for_trfnb_and_shows_its_card(wheel, tiny, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(wheel))
    transformer_pipeline(tiny).to_disk(tmp_path / "saved")
    made().write_card(tmp_path / "saved", "Trained on a corpus.")
    (tmp_path / "out").mkdir()
    package(
        tmp_path / "saved", tmp_path / "out", name="few", create_wheel=False, create_sdist=False
    )
    (project,) = (tmp_path / "out").iterdir()
    meta = json.loads((project / "meta.json").read_text())
    first, second, _ = trfnb.__version__.split(".")
    assert f"trfnb>={trfnb.__version__},<{first}.{int(second) + 1}.0" in meta["requirements"]
    asked = {}
    monkeypatch.setattr("setuptools.setup", lambda **settings: asked.update(settings))
    monkeypatch.chdir(project)
    runpy.run_path(str(project / "setup.py"), run_name="__main__")
    assert any(one.startswith("trfnb>=") for one in asked["install_requires"])
    card = (tmp_path / "saved/README.md").read_text(encoding="utf8")
    for part in ("Trained on a corpus.", "| 0.901 ± 0.002 |", "| MB on disk |", '"en_pipeline")'):
        assert part in card
    assert asked["long_description"] == card
    nlp = spacy.load(next(project.glob("en_few/en_few-*")))
    assert nlp("the bank")[0].tag_
    nlp.to_disk(tmp_path / "again")  # spaCy copies no README.md: it makes one, with the notes
    package(tmp_path / "again", tmp_path / "out", name="again", create_sdist=False)
    page = (tmp_path / "out/en_again-0.0.0/README.md").read_text(encoding="utf8")
    assert "View label scheme" in page
    assert card.partition("\n\n")[2].strip() in page
