from pathlib import Path

import pytest
import yaml
from runs.small_notebooks import TINY, write_notebook

from trfnb.runs.specification import Sweep, expand


@pytest.fixture
def form(tmp_path: Path):
    pytest.importorskip("ipywidgets")
    from trfnb.widgets.sweep_form import SweepForm

    return SweepForm(write_notebook(tmp_path / "tiny.ipynb", TINY))


def test_one_value_fixes_several_vary(form) -> None:
    assert "1 run" in form.said.value
    form.fields["rate"].value = "0.1; 1e-3"
    form.fields["mode"].value = ["a", "b"]
    form.fields["corpus"].value = "my corpus"
    form.fields["smoke"].value = [True]
    form.jobs.value = 2
    assert "4 runs" in form.said.value
    sweep = form.sweep
    assert sweep.grid == {"rate": [0.1, 1e-3], "mode": ["a", "b"]}
    assert sweep.fixed == {"corpus": "my corpus", "smoke": True}
    assert len(expand(Sweep(**yaml.safe_load(form.yaml)))) == 4


def test_faults_are_shown_where_they_are_made(form) -> None:
    form.fields["seed"].value = "many"
    assert "`seed`: expected int, got &#x27;many&#x27;" in form.said.value
    form.fields["seed"].value = "1"
    assert "1 run" in form.said.value


def test_a_notebook_without_parameters_has_no_form(tmp_path: Path) -> None:
    pytest.importorskip("ipywidgets")
    from trfnb.widgets.sweep_form import SweepForm

    with pytest.raises(ValueError, match="tag its cell of literals"):
        SweepForm(write_notebook(tmp_path / "x.ipynb", "", "1"))
