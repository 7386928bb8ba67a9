"""From YAML or Python to the list of runs, with every mistake told at once."""

from pathlib import Path

import pytest

from trfnb.runs.specification import SpecificationError, Sweep, expand, load_sweep


def rows(sweep: Sweep, *names: str, smoke: bool = False) -> list[tuple[object, ...]]:
    return [tuple(run.parameters[n] for n in names) for run in expand(sweep, smoke=smoke)]


def test_runs_grid_and_seeds_multiply(tiny: Path) -> None:
    sweep = Sweep(
        tiny, fixed={"corpus": "x"}, runs=[{"rate": 0.2}, {"corpus": "y"}],
        grid={"mode": ["a", "b"]}, seeds=2,
    )  # fmt: skip
    assert rows(sweep, "rate", "corpus", "mode", "seed") == [
        (rate, corpus, mode, seed)
        for rate, corpus in ((0.2, "x"), (0.1, "y"))
        for mode in "ab"
        for seed in (0, 1)
    ]
    assert expand(sweep)[0].given == {
        "corpus": "'x'", "rate": "0.2", "mode": "'a'", "seed": "0",
    }  # fmt: skip
    assert len(expand(Sweep(tiny, grid={"rate": [1, 1.0]}))) == 1  # the same run twice is one


def test_fixing_takes_the_place_of_what_varies(tiny: Path) -> None:
    sweep = Sweep(tiny, grid={"mode": ["a", "b"], "rate": [0.1, 0.2]}, seeds=3)
    fixed = sweep.fixing({"rate": "0.5", "seed": "7", "corpus": "5"})
    assert rows(fixed, "mode", "rate", "seed", "corpus", "smoke", smoke=True) == [
        ("a", 0.5, 7, "5", True),
        ("b", 0.5, 7, "5", True),
    ]
    assert fixed.varied == ["mode"]
    assert sweep.varied == ["mode", "rate", "seed"]


def test_all_errors_of_all_runs_at_once(tiny: Path) -> None:
    sweep = Sweep(tiny, fixed={"corpsu": "x"}, grid={"mode": ["a", "c", "d"], "rate": ["much"]})
    with pytest.raises(SpecificationError) as error:
        expand(sweep)
    assert len(error.value.errors) == 4
    assert "Did you mean `corpus`?" in str(error.value)


def test_a_file_becomes_a_sweep(tiny: Path, tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "x.yml"
    file.write_text(
        "notebook: tiny.ipynb\ntimeout: 1.5 min\nengine: {name: ray, address: auto}\n"
        "runs: [{rate: 1e-4}]\n"
    )
    sweep = load_sweep(file, jobs=2, engine="ray")
    assert (sweep.name, sweep.timeout) == ("x", 90.0)
    assert (sweep.jobs, sweep.engine.address) == (2, "auto")
    assert rows(sweep, "rate") == [(1e-4,)]
    monkeypatch.setenv("HOME", str(tmp_path))
    file.write_text("notebook: ~/tiny.ipynb\n")
    assert load_sweep(file).notebook == tiny


def test_wrong_keys_of_a_file_come_all_at_once(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.yml"
    file.write_text(
        "notebook: tiny.ipynb\ngird: {}\ngrid: {a: 1}\n"
        "timeout: 5 parsecs\njobs: 0\nseeds: -1\n"
        "bounds: {f: [1]}\nsearch: {metric: f, trials: 3, sampler: magic, space: {x: [1]}}\n"
        "engine: {name: ray, adress: auto}\n"
    )
    with pytest.raises(SpecificationError) as error:
        load_sweep(file)
    for key in ("grid.a", "timeout", "jobs", "seeds", "bounds.f", "search.sampler"):
        assert f"`{key}`" in str(error.value)
    assert "`gird`: no such key. Did you mean `grid`?" in str(error.value)
    assert "`engine.adress`: no such key. Did you mean `address`?" in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("notebook: !!python/object/apply:os.system ['true']\n", "no sweep in YAML"),
        ("notebook: tiny.ipynb\ngrid: {rate: [1]}\ngrid: {rate: [2]}\n", 'duplicate key "grid"'),
        ("grid: {}\n", "expected a mapping with the key `notebook`"),
    ],
)
def test_files_that_are_no_sweep(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "x.yml"
    file.write_text(content)
    with pytest.raises(SpecificationError, match=message):
        load_sweep(file)
    with pytest.raises(SpecificationError, match=r"got a folder; give one of its files: x\.yml"):
        load_sweep(tmp_path)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"data": "corpus"}, "`data`: expected a valid list, got 'corpus'"),
        ({"bounds": {"f1": ["low", "high"]}}, "`bounds.f1.0`: expected a valid number"),
        ({"grid": {1: [2]}}, "`grid.1`: expected a valid string"),
        ({"engine": "dask"}, "`engine.name`: expected 'local', 'ray' or 'slurm', got 'dask'"),
        ({"engine": {"name": "ray", "minutes": 5}}, "`minutes`: no option of engine 'ray'"),
        ({"engine": {"nme": "local"}}, "`engine.nme`: no such key"),
        ({"jobs": "lots"}, "`jobs`: expected a valid integer, got 'lots'"),
        ({"name": "../../etc"}, "`name`: expected a plain folder name"),
        ({"search": {"metric": "f1", "trials": 2, "space": {"x": [1]}}, "seeds": 2},
         "`search`: expected neither"),
        ({"seeds": True}, "`seeds"),
        ({"search": {"metric": "f1", "trials": 2, "space": {"x": {"low": 2, "high": 1}}}},
         r"`search.space.x`: expected low < high"),
        ({"grid": {"seed": [7, 8]}, "seeds": 2}, "`seed`: given in `grid` and `seeds`"),
        ({"runs": [{"lr": 5.0}], "grid": {"lr": [1.0]}}, "`lr`: given in `grid` and `runs`"),
        ({"fixed": {"lr": 5.0}, "grid": {"lr": [1.0]}}, "`lr`: given in `grid` and `fixed`"),
    ],
)  # fmt: skip
def test_settings_of_the_wrong_form_are_told_before_a_start(settings, named: str) -> None:
    with pytest.raises(SpecificationError, match=named):
        Sweep("some.ipynb", **settings)


def test_a_question_is_checked_with_the_rest(tiny: Path) -> None:
    with pytest.raises(SpecificationError) as error:
        Sweep(tiny, answer={"score": {"f1": "F"}, "margin": -1.0})
    assert "`answer.score`: no such key. Did you mean `scores`?" in error.value.errors
    assert any("`answer.margin`: expected" in line for line in error.value.errors)


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"by": "mdoe"}, "`answer.by`: no parameter of the notebook, got 'mdoe'."),
        ({"by": "mode"}, "`answer.against`: expected one of ['a', 'b'], got 'shared'."),
        (
            {"by": "rate", "against": 1},
            "`answer.against`: expected one of ['0.1', '0.2', '2'], got",
        ),
        ({"by": "rate", "against": 2.0}, "`answer.of`: expected one of ['0.1', '0.2', '2'], got"),
    ],
)
def test_an_answer_that_no_run_could_give_is_told_before_the_first(tiny: Path, asked, line) -> None:
    varied = {"mode": ["a", "b"], "rate": [0.1, 0.2, 2]}
    grid = {name: values for name, values in varied.items() if name == asked["by"]}
    sweep = Sweep(tiny, grid=grid, answer={"scores": {"f": "F"}} | asked)
    with pytest.raises(SpecificationError) as error:
        expand(sweep)
    assert error.value.errors[0].startswith(line)


def test_an_answer_is_of_runs_that_differ_in_one_parameter_and_the_seed(tiny: Path) -> None:
    told = {"scores": {"f": "F"}, "by": "rate", "against": 2, "of": 0.1}
    grid = {"rate": [0.1, 0.2, 2]}
    assert len(expand(Sweep(tiny, grid=grid, seeds=2, answer=told))) == 6
    with pytest.raises(SpecificationError, match=r"got others in \['mode'\]"):
        expand(Sweep(tiny, grid=grid | {"mode": ["a", "b"]}, answer=told))
    search = {"metric": "f", "trials": 3, "space": {"rate": [1.0]}}
    with pytest.raises(SpecificationError, match="`answer`: expected runs that are paired by seed"):
        Sweep(tiny, search=search, answer=told)
