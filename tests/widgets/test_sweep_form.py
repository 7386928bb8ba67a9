"""The form of a sweep: what it says, refuses and runs."""

import nbformat
import pandas as pd
import pytest
import yaml

from trfnb.runs.expansion import expand
from trfnb.runs.specification import Sweep
from trfnb.widgets import SweepForm

PARAMETERS = """
from typing import Literal
seed: int = 0
rate: float = 0.5
body: str = "tok2vec"  # "tok2vec", "minilm", or a transformer's path or hub name
sharing: str = "shared"  # "shared", "frozen"
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


def test_one_value_fixes_several_vary(form):
    assert form.message.value == "1 run"
    form.fields["rate"].value = "0.1; 1e-3"
    form.fields["mode"].value = ["a", "b"]
    form.fields["body"].value = "some/encoder"
    form.fields["smoke"].value = [True]
    form.jobs.value = 2
    assert form.message.value == "4 runs"
    sweep = form.sweep
    assert sweep.grid == {"rate": [0.1, 1e-3], "mode": ["a", "b"]}
    assert sweep.fixed == {"body": "some/encoder", "smoke": True}
    assert len(expand(Sweep(**yaml.safe_load(form.yaml)))) == 4


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seed", "many", "expected int, got &#x27;many&#x27;"),
        ("body", "tokk2vecc", "got &#x27;tokk2vecc&#x27;. Did you mean &#x27;tok2vec&#x27;?"),
        ("sharing", "shared; none", "expected one of shared, frozen, got &#x27;none&#x27;."),
    ],
)
def test_a_wrong_value_is_told_and_cannot_be_run(form, name, value, message):
    form.fields[name].value = value
    assert f"`{name}`: " in form.message.value
    assert message in form.message.value
    assert form.run_button.disabled
    form.fields[name].value = str(form.declared[name].default)
    assert form.message.value == "1 run"
    assert not form.run_button.disabled


def test_a_notebook_without_parameters_has_no_form(tmp_path):
    with pytest.raises(ValueError, match="tag its cell of literals"):
        SweepForm(write(tmp_path, ""))


@pytest.mark.slow
def test_run_starts_the_sweep_and_says_how_it_ended(form):
    form.fields["seed"].value = "0; 1"
    form.run_button.click()
    assert form.run_button.disabled
    assert form.process.wait(120) == 0
    form.refresh()
    assert "ended with exit code 0" in form.output.value
    assert sorted(pd.read_csv(form.out / "results.csv")["score"]) == [0.5, 1.0]
    assert "exit code 0" in form._repr_mimebundle_()["text/html"]
