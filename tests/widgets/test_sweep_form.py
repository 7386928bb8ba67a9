"""The form of a sweep: what it says, refuses and runs."""

import nbformat
import pandas as pd
import pytest

from trfnb.runs.specification import expand
from trfnb.widgets import SweepForm

PARAMETERS = """
from typing import Literal
seed: int = 0
rate: float = 0.5
encoder: str = "tok2vec"  # "tok2vec", "minilm", or a transformer's path or hub name
notes: str = "a; b"
mode: Literal["a", "b"] = "a"
smoke: bool = False  # a run of seconds
"""


def write(folder, parameters):
    cells = [
        nbformat.v4.new_code_cell(parameters.strip(), metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell('import trfnb\ntrfnb.record("score", rate * (seed + 1))'),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "small.ipynb")
    return folder / "small.ipynb"


@pytest.fixture
def form(tmp_path):
    return SweepForm(write(tmp_path, PARAMETERS), out=tmp_path / "out" / "small")


def test_one_value_sets_and_several_vary(form):
    assert form.shown.value.startswith("1 run(s)")
    assert form.fields["smoke"].value == "False"
    form.fields["rate"].value = "0.1; 1e-3"
    form.fields["mode"].value = "a; b"
    form.fields["encoder"].value = "some/encoder"
    form.fields["smoke"].value = "true"
    form.jobs.value = 2
    assert form.shown.value.startswith("4 run(s)")
    varied = {"rate": [0.1, 1e-3], "mode": ["a", "b"]}
    assert form.sweep.grid == {"encoder": ["some/encoder"], "smoke": [True], **varied}
    assert {run.parameters["notes"] for run in expand(form.sweep)} == {"a; b"}, "left as it was"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seed", "many", "expected int, got &#x27;many&#x27;"),
        ("seed", "1; 2;", "expected values between semicolons"),
        ("mode", "a; c", "expected &#x27;a&#x27; or &#x27;b&#x27;, got &#x27;c&#x27;"),
    ],
)
def test_a_wrong_value_is_told_and_cannot_be_run(form, name, value, message):
    before = form.fields[name].value
    form.fields[name].value = value
    assert f"`{name}`: " in form.shown.value
    assert message in form.shown.value
    assert form.run_button.disabled
    form.fields[name].value = before
    assert form.shown.value.startswith("1 run(s)")
    assert not form.run_button.disabled


def test_a_notebook_without_parameters_has_no_form(tmp_path):
    with pytest.raises(ValueError, match="tag its cell of literals"):
        SweepForm(write(tmp_path, ""))


@pytest.mark.slow
def test_run_starts_the_sweep_and_says_how_it_ended(form):
    form.fields["seed"].value = "1"
    form.run_button.click()
    assert form.run_button.disabled
    form.follower.join(120)
    assert "ended with exit code 0" in form.shown.value
    assert form.shown.value in form.static()["text/html"]
    assert pd.read_csv(form.out / "results.csv")["score"].tolist() == [1.0]
    assert not form.run_button.disabled
