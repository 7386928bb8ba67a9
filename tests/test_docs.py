"""The executed copies, the README, the citation and the site's navigation agree with the rest."""

import importlib.util
import re
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COPIES = ROOT / "docs" / "notebooks"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text(encoding="utf8")
LARGEST = 600_000  # bytes of a copy
ELSEWHERE = re.compile(r"(?<![\w.~/])/(home|root|tmp|var|work|Users|mnt|opt)/\w")

CELLS = {
    "top": "# 10 · What is here?\n\nSome prose.",
    "parameters": "smoke: bool = False",
    "paths": "import pathlib, tempfile\nprint(pathlib.Path.cwd(), tempfile.mkdtemp() + '/x')\n"
    "object()",
    "figure": "%matplotlib inline\nfrom matplotlib import pyplot\npyplot.figure(figsize=(40, 5));"
    "pyplot.plot([1, 2])",
    "widget": "from ipywidgets import IntSlider\nIntSlider()",
    "record": "from trfnb import record\n"
    "record('finding', ['**Starved**: ner', 'All | is 3.', 'More.'])\n"
    "from matplotlib.figure import Figure\nrecord('picture', Figure())",
}


def module(name):
    """Import a script of docs/."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


@pytest.fixture
def docs(tmp_path, monkeypatch):
    """docs/execute.py over a project of one small notebook."""
    docs = module("execute")
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    monkeypatch.setattr(docs, "COPIES", tmp_path / "docs")
    (tmp_path / "notebooks").mkdir()
    write(tmp_path, CELLS)
    return docs


def write(folder, cells):
    made = [nbformat.v4.new_code_cell(text, id=name) for name, text in cells.items()]
    made[0] = nbformat.v4.new_markdown_cell(next(iter(cells.values())), id="top")
    path = folder / "notebooks" / "10_small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=made), path)
    return path


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_there_is_a_copy_of_this_source_with_a_finding(path):
    docs = module("execute")
    about = docs.stamp(path)
    now = "is missing" if not about else "was made from another version of the notebook"
    assert about.get("source") == docs.source_hash(path), (
        f"docs/notebooks/{path.name} {now}. Run `make notebooks` and commit what it writes."
    )
    assert docs.entry(path).finding, (
        f"{path.name} records no finding: record('finding', [sentence, …]), the most telling first."
    )


def test_copies_show_on_github_and_tell_nothing_of_the_machine():
    copies = sorted(COPIES.glob("*.ipynb"))
    assert {copy.name for copy in copies} <= {path.name for path in NOTEBOOKS}
    for copy in copies:
        text = copy.read_text(encoding="utf8")
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
        assert len(text.encode()) < LARGEST, copy.name
        assert "widgets" not in notebook.metadata
        assert {
            "source",
            "code",
            "seconds",
            "machine",
            "versions",
        } <= notebook.metadata.trfnb.keys()
        outputs = [one for cell in notebook.cells for one in cell.get("outputs", [])]
        assert any("image/png" in one.get("data", {}) for one in outputs), "a reader sees a figure"
        assert not any(one.get("name") == "stderr" for one in outputs)
        said = re.sub(r"base64,[A-Za-z0-9+/=\\n]+|\"image/png\": \".*?\"", "", text)
        assert not (found := ELSEWHERE.search(said)), said[found.start() - 60 : found.end() + 60]


def test_a_copy_is_small_neutral_stamped_and_known_to_be_stale(docs, tmp_path):
    (path,) = docs.sources()
    assert docs.stale() == [path]
    assert docs.update(path) == "executed"
    assert docs.stale() == []
    copy = nbformat.read(tmp_path / "docs" / path.name, as_version=4)
    outputs = {cell.id: cell.get("outputs", []) for cell in copy.cells}
    printed, value = outputs["paths"]
    assert printed.text == "./notebooks scratch/x\n"
    assert value.data["text/plain"] == "<object at 0x…>"
    (figure,) = [one for one in outputs["figure"] if "image/png" in one.get("data", {})]
    assert len(figure.data["image/png"]) < 20_000
    assert outputs["widget"] == [], "of a kernel alone"
    (picture,) = outputs["record"]  # values are for programs
    assert set(picture.data) == {"image/png", "text/plain"}
    about = copy.metadata.trfnb
    assert about.recorded.finding == ["**Starved**: ner", "All | is 3.", "More."]
    assert about.versions.trfnb == PROJECT["version"]
    assert copy.cells[1].id == "executed-copy"
    assert about.source[:12] in copy.cells[1].source

    write(tmp_path, CELLS | {"top": "# 10 · What was here?"})
    assert docs.stale() == [path]
    assert docs.update(path) == "prose renewed"
    assert docs.stale() == []
    renewed = nbformat.read(tmp_path / "docs" / path.name, as_version=4)
    assert renewed.cells[0].source == "# 10 · What was here?"
    assert [cell.get("outputs") for cell in renewed.cells] == [
        cell.get("outputs") for cell in copy.cells
    ]
    text = docs.with_findings(f"Before\n{docs.BEGIN}\nold\n{docs.END}\nafter")
    assert "docs/notebooks/10_small.ipynb) | All \\| is 3. (Some runs were starved.) |" in text
    assert "old" not in text
    assert docs.with_findings(text) == text

    write(tmp_path, CELLS | {"paths": "1 / 0"})
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        docs.update(path)
    kept = nbformat.read(tmp_path / "docs" / path.name, as_version=4)
    assert kept == renewed, "no copy of a notebook that fails"


def test_the_readme_lists_the_findings_of_the_copies():
    assert module("execute").with_findings(README) == README, "run `make notebooks`"


def test_the_readme_is_short_and_leads_somewhere():
    prose = re.sub(r"```.*?```|<!--.*?-->|(?<=\])\([^)]*\)", "", README, flags=re.S)
    assert len(re.findall(r"\S*\w\S*", prose)) < 700
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", README)
    local = [link for link in links if not re.match(r"https?://|\.\./\.\./actions/", link)]
    assert not [link for link in local if not (ROOT / link).exists()]


def test_badges_are_true():
    badges = re.findall(r"\.\./\.\./actions/workflows/(\w+\.yml)", README)
    assert badges
    for name in badges:
        assert (ROOT / ".github" / "workflows" / name).exists(), name
    (python,) = re.findall(r"badge/python-%E2%89%A5_([\d.]+)-", README)
    assert PROJECT["requires-python"] == f">={python}"
    (licence,) = re.findall(r"badge/licence-(\w+)-", README)
    assert PROJECT["license"] == licence


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def test_the_sites_navigation_reaches_every_page_copy_and_module():
    from mkdocs.config import load_config

    hooks = module("hooks")
    config = hooks.on_config(load_config(str(ROOT / "mkdocs.yml")))
    pages = set(hooks.pages_of(config.nav))
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert written <= pages
    assert {f"notebooks/{copy.name}" for copy in COPIES.glob("*.ipynb")} <= pages
    reference = "".join(hooks.reference(name) for name in hooks.rooms())
    assert {f"reference/{name}.md" for name in hooks.rooms()} <= pages
    shown = set(re.findall(r"^::: ([\w.]+)$", reference, re.M))
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "trfnb").rglob("*.py")
        if path.stem != "commands" and not path.stem.startswith("_")
    }
    # The command line has a page of its own, of what each command says for --help.
    assert shown | {"trfnb.cli"} == modules | {"trfnb.cli"}
    for command in ("run", "sweep", "compare", "vectors convert", "pretrain"):
        assert f"\n## trfnb {command}\n" in reference
