"""The command line as a person uses it; nothing here imports torch or spaCy."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs.small_notebooks import TINY, write_notebook

import trfnb
from trfnb.cli import main

CELL = "import trfnb\ntrfnb.record('f1', rate)"
SWEEP = """notebook: tiny.ipynb
grid: {rate: [0.1, 0.2]}
bounds: {f1: [0.1, 0.2]}
"""


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_notebook(tmp_path / "tiny.ipynb", TINY, CELL)
    (tmp_path / "night.yml").write_text(SWEEP)
    return tmp_path / "night.yml"


def test_sweep_ends_with_a_table_and_a_report(sweep: Path, capsys) -> None:
    assert main(["sweep", "night.yml", "--dry-run"]) == 0
    assert "2 runs: 0 done, 2 to do." in capsys.readouterr().out
    assert main(["sweep", "night.yml", "--jobs", "2", "--check"]) == 0
    said = capsys.readouterr().out
    assert "[2/2] done" in said
    assert "report: papermill_runs/night/report.html" in said
    assert Path("papermill_runs/night/report.html").exists()
    assert main(["sweep", "night.yml", "--dry-run"]) == 0
    assert "2 runs: 2 done, 0 to do." in capsys.readouterr().out
    assert main(["status", "papermill_runs/night"]) == 0
    assert "night: 2 done" in capsys.readouterr().out


ANSWERING = """from typing import Literal
sharing: Literal["shared", "independent"] = "shared"
seed: int = 0
margin: float = 0.2"""
SCORED = """import trfnb
from trfnb.runs.results import run_folder
score = 0.8 + 0.1 * (sharing == "independent")
trfnb.record("f1", score)
trfnb.record("dev_score", score)
folder = run_folder() / "pipeline"
folder.mkdir()
(folder / "meta.json").write_text('{"lang": "en", "name": "asks"}')
trfnb.record("pipeline", folder.name)"""
ASKS = """notebook: asks.ipynb
grid: {sharing: [shared, independent]}
answer: {scores: {f1: entity F}}
"""


def test_a_sweep_that_asks_ends_with_the_answer_and_the_winner(sweep: Path, capsys) -> None:
    write_notebook(Path("asks.ipynb"), ANSWERING, SCORED)
    Path("asks.yml").write_text(ASKS)
    assert main(["sweep", "asks.yml", "--jobs", "2"]) == 0
    said = capsys.readouterr().out
    assert "entity F: cannot tell from 1 seed(s): at least 2 more." in said
    # by the margin of the notebook's parameters
    assert "Take shared. Mean dev_score: shared 0.800, independent 0.900; shared wins" in said
    assert 'spacy.load("papermill_runs/asks/winner")' in said
    assert len(list(Path("papermill_runs/asks/runs").glob("*/pipeline"))) == 1
    assert main(["sweep", "asks.yml", "--quiet", "--jobs", "2", "--set", "margin=0.05"]) == 0
    assert "Take independent." in capsys.readouterr().out
    report = Path("papermill_runs/asks/report.html").read_text()
    assert "Take independent." in report  # of what was asked last; the folder holds four runs


def test_run_takes_parameters_that_never_reach_a_shell(sweep: Path, capsys) -> None:
    odd = "$(touch pwned); `touch pwned` '\" {x} \\ \udcff"
    given = ["-p", "corpus", odd, "-p", "rate", "-1e-3"]
    assert main(["run", "tiny.ipynb", *given, "--no-report"]) == 0
    assert "Warning: `corpus`" in capsys.readouterr().out
    assert not Path("pwned").exists()
    (folder,) = Path("papermill_runs/tiny/runs").iterdir()
    assert folder.name.startswith("corpus-_touch_pwned")
    assert folder.resolve().is_relative_to(Path.cwd() / "papermill_runs/tiny/runs")
    status = json.loads((folder / "status.json").read_text())
    assert (status["metrics"]["f1"], status["given"]["rate"]) == (-1e-3, "-0.001")


def test_what_was_not_recorded_is_told(sweep: Path, capsys) -> None:
    write_notebook(Path("tiny.ipynb"), TINY, "rate = 5")
    assert main(["sweep", "night.yml", "--set", "rate=0.3", "--check", "--no-report"]) == 1
    said = capsys.readouterr().out
    assert "Warning: cell 2 of tiny.ipynb assigns `rate` anew" in said
    assert "No run recorded a value: call trfnb.record(name, value) in the notebook." in said
    assert "f1: expected 0.1 to 0.2, got nothing." in said


def test_wrong_parameters_are_refused_before_any_kernel_starts(sweep: Path, capsys) -> None:
    assert main(["run", "tiny.ipynb", "-p", "sed", "1", "-p", "mode", "z"]) == 2
    said = capsys.readouterr().err
    assert "Did you mean `seed`?" in said
    assert "expected 'a' or 'b'" in said
    assert not Path("papermill_runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep", "none.yml"], "No such file"),
        (["sweep", "."], "got a folder; give one of its files: night.yml"),
        (["sweep", "night.yml", "--dry-run", "--set", "corpus=my.conllu"], "no file or folder"),
        (["run", "tiny.ipynb", "-p", "body"], "-p body: expected a value after the name"),
        (["run", "tiny.ipynb", "-p", "body", "-p", "rate", "1"], "-p body: expected a value"),
        (["run", "tiny.ipynb", "-p", "rate", "1", "--set", "rate=2"], "--set rate=1: given twice"),
        (["run", "none.ipynb"], "No notebook at none.ipynb"),
        (["report", "."], "holds no sweep"),
        (["status", "."], "holds no sweep"),
        (["sweep", "night.yml", "--set", "rate"], "expected NAME=VALUE"),
        (["sweep", "night.yml", "--timeout", "soon"], "expected a duration"),
        (["sweep", "night.yml", "night.yml", "--out", "x"], "expected one sweep"),
    ],
)
def test_errors_are_a_line_and_exit_code_2(sweep: Path, capsys, arguments, message) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_the_parent_of_a_sweep_stays_light(sweep: Path) -> None:
    code = (
        "import sys; from trfnb.cli import main; code = main(['sweep', 'night.yml', '--no-report',"
        " '-q', '--set', 'rate=0.1']); heavy = {'torch', 'spacy', 'thinc', 'transformers',"
        " 'papermill', 'ipywidgets', 'ray', 'optuna', 'matplotlib'} & set(sys.modules);"
        " print('heavy', heavy);"
        " sys.exit(code)"
    )
    source = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "heavy set()" in done.stdout


@pytest.mark.parametrize("command", [[], ["run"], ["sweep"], ["report"], ["status"]])
def test_every_help_has_an_example(command: list[str], capsys) -> None:
    assert main([*command, "--help"]) == 0
    assert "Example: trfnb " in capsys.readouterr().out


def test_a_module_answers_for_the_command() -> None:
    source = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "trfnb", "--version"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": source},
        check=True,
    )
    assert done.stdout == f"trfnb {trfnb.__version__}\n"
    assert main(["swep"]) == 2
