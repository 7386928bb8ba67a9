from pathlib import Path

import pytest

from trfnb.runs.expansion import expand
from trfnb.runs.parameters import ParameterError
from trfnb.runs.specification import SpecificationError, Sweep, load_sweep


def rows(sweep: Sweep, *names: str) -> list[tuple[object, ...]]:
    return [tuple(row[name] for name in names) for row in expand(sweep)]


def test_grid_zip_runs_seeds_and_conditions_multiply(tiny: Path) -> None:
    sweep = Sweep(
        tiny,
        fixed={"corpus": "x"},
        grid={"mode": ["a", "b"]},
        zip={"rate": [0.1, 0.2], "smoke": [True, False]},
        seeds=2,
        where=["mode == 'a' or seed == 0", "not (smoke and rate > 0.15)"],
    )
    assert rows(sweep, "mode", "rate", "smoke", "seed") == [
        ("a", 0.1, True, 0),
        ("a", 0.1, True, 1),
        ("a", 0.2, False, 0),
        ("a", 0.2, False, 1),
        ("b", 0.1, True, 0),
        ("b", 0.2, False, 0),
    ]
    assert {row["corpus"] for row in expand(sweep)} == {"x"}


def test_lists_and_functions(tiny: Path) -> None:
    sweep = Sweep(
        tiny, runs=[{"seed": 3}, {"seed": 4, "mode": "b"}], where=[lambda r: r["seed"] > 3]
    )
    assert rows(sweep, "seed", "mode", "rate") == [(4, "b", 0.1)]


def test_random_runs_are_the_same_for_the_same_seed(tiny: Path) -> None:
    space = {"rate": {"low": "1e-4", "high": 1.0, "log": True}, "mode": ["a", "b"]}
    space["seed"] = {"low": 1, "high": 9}
    sweeps = [Sweep(tiny, random={"count": 20, "seed": s, "space": space}) for s in (1, 1, 2)]
    drawn = [rows(sweep, "rate", "mode", "seed") for sweep in sweeps]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 20
    assert all(1e-4 <= rate <= 1 and mode in "ab" for rate, mode, _ in drawn[0])
    assert all(isinstance(seed, int) and 1 <= seed <= 9 for _, _, seed in drawn[0])
    assert sum(rate < 0.01 for rate, _, _ in drawn[0]) > 4  # logarithmic


def test_the_same_run_twice_is_one_run(tiny: Path) -> None:
    assert len(expand(Sweep(tiny, grid={"rate": [1, 1.0, "1.0"]}))) == 1


def test_overrides_take_the_place_of_what_varies(tiny: Path) -> None:
    sweep = Sweep(tiny, grid={"mode": ["a", "b"], "rate": [0.1, 0.2]}, seeds=3)
    found = expand(sweep, overrides={"rate": "0.5", "seed": "7", "corpus": "5"}, smoke=True)
    assert [(r["mode"], r["rate"], r["seed"], r["corpus"]) for r in found] == [
        ("a", 0.5, 7, "5"),
        ("b", 0.5, 7, "5"),
    ]
    assert all(row["smoke"] for row in found)


def test_all_faults_of_all_runs_at_once(tiny: Path) -> None:
    sweep = Sweep(tiny, fixed={"corpsu": "x"}, grid={"mode": ["a", "c", "d"], "rate": ["much"]})
    with pytest.raises(ParameterError) as error:
        expand(sweep)
    assert len(error.value.faults) == 4
    assert "did you mean `corpus`?" in str(error.value)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("__import__('os').system('true')", "not allowed"),
        ("mode ==", "no valid expression"),
        ("modus == 'a'", "no parameter `modus`"),
        ("mode > 3", "not supported"),
        ("seed.__class__", "not allowed"),
    ],
)
def test_conditions_are_read_not_run(tiny: Path, condition: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        expand(Sweep(tiny, where=[condition]))


def test_wrong_keys_of_a_file_come_all_at_once(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.yml"
    file.write_text("notebook: tiny.ipynb\ngird: {}\ntimeout: 5 parsecs\n")
    with pytest.raises(SpecificationError, match="did you mean `grid`"):
        load_sweep(file)
    file.write_text(
        "notebook: tiny.ipynb\nname: ../../etc\ngrid: {a: 1}\nzip: {a: [1], b: [1, 2]}\n"
        "timeout: 5 parsecs\nmemory: lots\nretry: {tired: 2}\njobs: 0\nseeds: -1\n"
        "bounds: {f: 1}\nsearch: {metric: f, trials: 3, sampler: magic, space: {x: [1]}}\n"
    )
    with pytest.raises(SpecificationError) as error:
        load_sweep(file)
    for key in ("name", "grid.a", "zip", "timeout", "memory", "retry.tired", "jobs", "seeds",
                "bounds.f", "search.sampler"):  # fmt: skip
        assert f"`{key}`" in str(error.value)


def test_yaml_is_loaded_safely(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.yml"
    file.write_text("notebook: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(SpecificationError, match="no valid YAML"):
        load_sweep(file)
    file.write_text("notebook: tiny.ipynb\ntimeout: 1.5 min\nmemory: 4 GB\n")
    sweep = load_sweep(file)
    assert (sweep.name, sweep.timeout, sweep.memory) == ("x", 90.0, 4000.0)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"data": "corpus"}, "`data`: expected a list of names"),
        ({"metrics": "f1"}, "`metrics`: expected a list of names"),
        ({"bounds": [1]}, "`bounds`: expected a mapping"),
        ({"bounds": {"f1": ["low", "high"]}}, r"`bounds.f1`: expected \[low, high\]"),
        ({"grid": {1: [2]}}, "`grid`: expected names as keys"),
        ({"where": [3]}, "`where`: expected a list of conditions"),
        ({"engine": "dask"}, "`engine`: expected local, ray, slurm"),
        ({"engine": {"nme": "local"}}, "`engine`: expected"),
        ({"gpus": "lots"}, "`gpus`: expected a whole number from 0"),
        ({"seeds": True}, "`seeds`: expected a count"),
        ({"retry": {"killed": "x"}}, "`retry.killed`: expected a count"),
    ],
)
def test_settings_of_the_wrong_form_are_told_before_a_start(setting, named) -> None:
    with pytest.raises(SpecificationError, match=named):
        Sweep("some.ipynb", **setting)
