"""The rules of the house: what imports what, what import costs, files that must agree."""

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "trfnb"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# A room may import the rooms that stand before it; plots, files and models are leaves for all.
ROOMS = {
    "runs": set(),
    "corpora": set(),
    "flow": set(),
    "pipe": {"flow"},
    "vectors": {"flow", "pipe", "corpora"},
    "pretraining": {"flow", "pipe", "vectors", "corpora"},
    "experiments": {"flow", "pipe", "vectors", "pretraining", "corpora"},
    "widgets": {"flow", "pipe", "vectors", "pretraining", "corpora", "experiments", "runs"},
}
# The way of the data. A stage imports earlier stages only.
FLOW = ["runtime", "wordpieces", "spans", "batching", "saving", "packed", "engines", "optimizer",
        "grad_factor", "encoder", "alignment", "gradients", "listener"]  # fmt: skip
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imported(path: Path) -> set[str]:
    """Return the absolute names that a module of the package imports."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    package = parts if path.name == "__init__.py" else parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join([*base, *((node.module or "").split(".") if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room):
    for path in sorted((PACKAGE / room).rglob("*.py")):
        rooms = {name.split(".")[1] for name in imported(path) if name.startswith("trfnb.")}
        foreign = (rooms & set(ROOMS)) - {room} - ROOMS[room]
        assert not foreign, f"{path.relative_to(ROOT)} imports {sorted(foreign)}"


def test_a_stage_of_the_flow_imports_earlier_stages_only():
    modules = {path.stem for path in (PACKAGE / "flow").glob("*.py")} - {"__init__"}
    assert modules == set(FLOW), "name every stage of trfnb/flow in FLOW, in its order"
    for i, stage in enumerate(FLOW):
        names = imported(PACKAGE / "flow" / f"{stage}.py")
        later = {s for s in FLOW[i:] if f"trfnb.flow.{s}" in names}
        assert not later, f"flow/{stage}.py imports {sorted(later)}"


def test_no_files_import_each_other_in_a_circle():
    uses = {name: imported(path) & MODULES.keys() - {name} for name, path in MODULES.items()}
    while leaves := {name for name, used in uses.items() if not used & uses.keys()}:
        uses = {name: used for name, used in uses.items() if name not in leaves}
    assert not uses, f"in a circle, or leading to one: {sorted(uses)}"


def test_the_library_stays_thin():
    texts = {path: path.read_text(encoding="utf8") for path in MODULES.values()}
    nodes = [node for text in texts.values() for node in ast.walk(ast.parse(text))]
    assert sum(isinstance(node, ast.stmt) for node in nodes) < 10_000
    assert len(texts) < 100
    lines = {path: text.count("\n") for path, text in texts.items()}
    assert not (long := [str(path) for path, n in lines.items() if n > 450]), long


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import spacy, trfnb; spacy.blank('en')", "transformers ipywidgets ray optuna submitit"),
        ("import trfnb.runs, trfnb.cli, trfnb.models", "torch spacy thinc transformers ray"),
    ],
)
def test_what_an_import_loads(code, absent):
    program = f"import sys; {code}; print([m for m in {absent.split()} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip().splitlines()[-1:] == ["[]"], done.stdout + done.stderr


def test_tested_versions_satisfy_the_project():
    pinned = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            pinned[name.lower()] = version
    extras = PROJECT["optional-dependencies"].values()
    wanted = [*PROJECT["dependencies"], *(one for extra in extras for one in extra)]
    for text in wanted:
        requirement = Requirement(text)
        version = pinned.get(requirement.name.lower())
        assert version is None or version in requirement.specifier, f"{text} against {version}"
    core = {Requirement(text).name.lower() for text in PROJECT["dependencies"]}
    assert core <= pinned.keys(), f"pin {sorted(core - pinned.keys())} in constraints.txt"


def test_conda_environment_agrees_with_the_project():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [one for one in environment["dependencies"] if isinstance(one, str)]
    (pip,) = [one["pip"] for one in environment["dependencies"] if isinstance(one, dict)]
    python = next(one for one in conda if one.startswith("python=")).removeprefix("python=")
    assert f"{python}.0" in SpecifierSet(PROJECT["requires-python"])
    assert "--constraint constraints.txt" in pip
    (editable,) = [one for one in pip if one.startswith("--editable .")]
    extras = editable.partition("[")[2].rstrip("]").split(",")
    assert set(extras) <= PROJECT["optional-dependencies"].keys()
    assert any(one.startswith("pip") for one in conda), "conda needs pip for a pip section"


def test_workflows_fit_githubs_schema():
    paths = sorted((ROOT / ".github/workflows").glob("*.yml"))
    assert paths
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema",
               "vendor.github-workflows", *map(str, paths)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_short_stripped_and_parameterised(path):
    cells = json.loads(path.read_text(encoding="utf8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(cells) <= 40
    for cell in code:
        assert not cell["outputs"]
        assert cell["execution_count"] is None
        assert len("".join(cell["source"]).splitlines()) <= 15, "".join(cell["source"])[:80]
    (parameters,) = [c for c in code if "parameters" in c["metadata"].get("tags", [])]
    assert "smoke: bool" in "".join(parameters["source"])
    assert any("record(" in "".join(cell["source"]) for cell in code)


def test_the_readme_names_the_commands_that_exist():
    readme = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo", "test", "lab"):
        assert f"make {target}" in readme
        assert f"\n{target}:" in makefile
    assert "make test" in (ROOT / ".ci/run").read_text()
