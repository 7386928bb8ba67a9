import pytest

from trfnb.runs.notebook import REQUIRED, UNKNOWN, read_parameters
from trfnb.runs.parameters import faults_of, fits, from_text, normalised

CELL = """from typing import Literal
seed: int = 0  # of everything
rate: float = 1e-3
mode: Literal["shared", "independent"] = "shared"  # of the encoder
body: "Literal['tok2vec', 'minilm']" = "tok2vec"
layers: list[str] = []
limit: int | None = None
name = "newsroom"
where: str
width = 64 * 2
smoke: bool = False
a = b = 2"""


def test_reads_names_types_defaults_choices_and_help(make_notebook) -> None:
    found = read_parameters(make_notebook(parameters=CELL))
    assert list(found) == [
        "seed", "rate", "mode", "body", "layers", "limit", "name", "where", "width", "smoke",
        "a", "b",
    ]  # fmt: skip
    assert found["seed"].help == "of everything"
    assert found["mode"].choices == ("shared", "independent")
    assert found["body"].choices == ("tok2vec", "minilm")
    assert found["where"].default is REQUIRED
    assert found["width"].default is UNKNOWN
    assert found["name"].kind == "str"


def test_a_notebook_without_the_cell_declares_nothing(make_notebook, tmp_path) -> None:
    assert read_parameters(make_notebook("x = 1", parameters="")) == {}
    with pytest.raises(ValueError, match="give the path of an"):
        read_parameters(tmp_path / "none.ipynb")
    (tmp_path / "bad.ipynb").write_text("[1]")
    with pytest.raises(ValueError, match="no notebook of format 4"):
        read_parameters(tmp_path / "bad.ipynb")
    with pytest.raises(ValueError, match="no valid Python, line 1"):
        read_parameters(make_notebook(parameters="seed = = 1"))


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (1, "int", True), (True, "int", False), (1.5, "int", False), (1, "float", True),
        ("1", "float", False), (True, "bool", True), (1, "bool", False), (None, "int | None", True),
        (None, "Optional[int]", True), (None, "int", False), ([1], "list[int]", True),
        (["a"], "list[int]", False), ("a", "Literal['a', 'b']", True), ("c", "Literal['a']", False),
        (1, "Literal[True]", False), ("x", "SomethingElse", True), (1, "Union[int, str]", True),
        ({"a": 1}, "dict[str, int]", True), (3, "", True),
    ],
)  # fmt: skip
def test_fits(value: object, kind: str, expected: bool) -> None:
    assert fits(value, kind) is expected


def test_all_faults_at_once_with_the_nearest_names(make_notebook) -> None:
    declared = read_parameters(make_notebook(parameters=CELL))
    faults = faults_of({"sede": 1, "mode": "share", "rate": "fast", "layers": [1]}, declared)
    assert len(faults) == 5  # and `where` has no value
    text = "\n".join(faults)
    assert "`sede`: the notebook has no such parameter; did you mean `seed`?" in text
    assert "expected one of 'shared', 'independent', got 'share'. Did you mean 'shared'?" in text
    assert "`rate`: expected float, got 'fast' (str)." in text
    assert "`where`: has no default; give a value of type str." in text


def test_text_of_a_command_line_is_read_by_the_declared_type(make_notebook) -> None:
    declared = read_parameters(make_notebook(parameters=CELL))
    read = {
        "name": ("5", "5"), "seed": ("5", 5), "rate": ("1e-5", 1e-5), "smoke": ("True", True),
        "limit": ("None", None), "layers": ("[a, b]", ["a", "b"]), "where": ("a: b", "a: b"),
        "mode": ("shared", "shared"),
    }  # fmt: skip
    for name, (text, value) in read.items():
        assert from_text(text, declared[name]) == value
    assert normalised(1, "float") == 1.0
    assert isinstance(normalised(1, "float"), float)
    assert normalised(1, "int | float") == 1
    assert normalised("1e-5", "float") == 1e-5
