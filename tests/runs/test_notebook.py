"""What a notebook declares, which values fit, and that they arrive unchanged."""

import ast
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trfnb.runs.notebook import (
    REQUIRED,
    UNKNOWN,
    Parameter,
    check,
    from_text,
    notebook_digest,
    overwritten,
    read_parameters,
    read_yaml,
    source_of,
)

CELL = """%matplotlib inline
from typing import Literal
seed: int = 0  # of everything
rate: float = 1e-3
mode: Literal["shared", "independent"] = "shared"  # of the encoder
layers: list[str] = []
limit: int | None = None
name = "newsroom"
where: str
width = 64 * 2
smoke: bool = False
a = b = 2
low, high = 1, 2.5
keep = {"NOUN", "VERB"}
shape = (3, 3)
table = {1: 0.5}
raw = b"x"
decay = None"""


def test_reads_names_types_defaults_choices_and_help(make_notebook) -> None:
    found = read_parameters(make_notebook(parameters=CELL))
    assert list(found) == [
        "seed", "rate", "mode", "layers", "limit", "name", "where", "width", "smoke",
        "a", "b", "low", "high", "keep", "shape", "table", "raw", "decay",
    ]  # fmt: skip
    assert found["seed"].help == "of everything"
    assert found["mode"].kind == "Literal['shared', 'independent']"
    assert found["where"].default is REQUIRED
    assert found["width"].default is UNKNOWN
    assert (found["low"].default, found["high"].default) == (1, 2.5)
    assert found["name"].kind == "str"
    assert found["shape"].default == (3, 3)


def test_what_is_no_python_notebook_is_told_as_such(make_notebook, tmp_path) -> None:
    assert read_parameters(make_notebook("x = 1", parameters="")) == {}
    with pytest.raises(ValueError, match=r"give the path of an \.ipynb"):
        read_parameters(tmp_path / "none.ipynb")
    for content in ("[1]", '{"cells": [1]}', '{"worksheets": []}'):
        (tmp_path / "bad.ipynb").write_text(content)
        with pytest.raises(ValueError, match="no notebook of format 4"):
            read_parameters(tmp_path / "bad.ipynb")
    with pytest.raises(ValueError, match="no valid Python, line 1"):
        read_parameters(make_notebook(parameters="seed = = 1"))
    path = make_notebook(parameters="x <- 1")
    content = json.loads(path.read_text())
    content["metadata"]["kernelspec"] = {"name": "ir", "language": "R"}
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="expected a Python notebook, got one in R"):
        read_parameters(path)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (1, "int", 1), (1, "float", 1.0), (None, "int | None", None), (None, "Optional[int]", None),
        ([1], "list[int]", [1]), ("a", "typing.Literal['a']", "a"), ("x", "SomethingElse", "x"),
        (1, "Union[int, str]", 1), (1, "int | float", 1), ({"a": 1}, "dict[str, int]", {"a": 1}),
        (3, "", 3), ([3, 3], "tuple", (3, 3)), (["a"], "set[str]", {"a"}), (1, "np.ndarray", 1),
        ([1, 2], "list[float]", [1.0, 2.0]), (2**70, "int", 2**70),
    ],
)  # fmt: skip
def test_what_fits_is_held_as_its_annotation_says(value, kind: str, expected) -> None:
    held = Parameter("x", kind).checked(value)
    assert held == expected
    assert type(held) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, "int"), (1.5, "int"), ("1", "float"), (1, "bool"), (None, "int"),
        (["a"], "list[int]"), ("5", "Optional[int]"), (1, "str"), ("x", "bytes"), (object(), ""),
        ({1: 2}, "dict[str, int]"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(value, kind: str) -> None:
    with pytest.raises(ValueError, match="`x`: expected"):
        Parameter("x", kind).checked(value)


def test_all_errors_at_once_with_the_nearest_names(make_notebook) -> None:
    declared = read_parameters(make_notebook(parameters=CELL))
    given = {"sede": 1, "mode": "share", "rate": "1e-3", "layers": [1]}
    text = "\n".join(check(given, declared)[1])
    assert text.count("\n") == 4  # and `where` has no value
    assert "`sede`: the notebook has no such parameter. Did you mean `seed`?" in text
    assert "expected 'shared' or 'independent', got 'share' (str)." in text
    assert "Did you mean `shared`?" in text
    assert "`rate`: expected float, got '1e-3' (str)." in text
    assert "`where`: has no default; give a value of type str." in text


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("name", "5", "5"), ("name", "2024-01-02", "2024-01-02"), ("name", "", ""),
        ("seed", "5", 5), ("rate", "-1e-3", -1e-3), ("smoke", "True", True),
        ("limit", "None", None), ("layers", "[a, b]", ["a", "b"]), ("where", "a: b", "a: b"),
        ("mode", "shared", "shared"), ("keep", "{'X', 'Y'}", {"X", "Y"}),
        ("shape", "(4, 4)", (4, 4)), ("table", "{2: .5}", {2: 0.5}),
        ("raw", "b'y'", b"y"), ("decay", "1e-4", 1e-4), ("name", "'x'", "'x'"),
    ],
)  # fmt: skip
def test_text_is_read_by_the_declared_type(make_notebook, name: str, text: str, value) -> None:
    parameter = read_parameters(make_notebook(parameters=CELL))[name]
    assert parameter.checked(from_text(text, parameter)) == value


LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()) | st.binary() | st.just("\ud83d"),
    lambda inner: st.lists(inner) | st.tuples(inner, inner)
    | st.sets(st.integers() | st.text()) | st.dictionaries(st.integers() | st.text(), inner),
    max_leaves=8,
)  # fmt: skip


@given(LITERALS)
def test_any_literal_comes_back_from_its_source(value) -> None:
    source = source_of(value)
    again = ast.literal_eval(source) if "set([" not in source else eval(source)
    assert again == value
    assert source_of(again) == source


def test_yaml_numbers_are_numbers_and_a_key_has_one_value() -> None:
    assert read_yaml("[12:30, yes, no, 7, -1_000, 0x1F]") == ["12:30", "yes", "no", 7, -1000, 31]
    text = "{wd: 1e-4, lrs: [1e-3, 2, .5], cfg: {lr: 1E-3}, when: 2024-01-02, none: }"
    assert read_yaml(text) == {
        "wd": 1e-4, "lrs": [1e-3, 2, 0.5], "cfg": {"lr": 1e-3}, "when": "2024-01-02", "none": None,
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"(?s)duplicate key \"grid\".*line 3"):
        read_yaml("grid: {a: [1]}\nseeds: 2\ngrid: {b: [1]}")


def test_a_later_cell_that_assigns_a_parameter_is_named(make_notebook) -> None:
    cells = [
        "print(seed)\nrate = 0.5\ndef f():\n    mode = 'b'",
        "for mode in 'ab':\n    pass\nseed = seed + 1\nif smoke:\n    corpus = 'x'",
        "import numpy as corpus\nwith open('x') as seed: pass\nrate *= 2",
    ]
    path = make_notebook(*cells, parameters="rate = 0.1\nseed = 0\nmode = 'a'\ncorpus = ''")
    found = list(overwritten(path, {"rate", "seed", "mode"}))
    assert found == [("rate", 2), ("mode", 3), ("seed", 4)]


def test_prose_and_outputs_change_no_digest_code_does(tiny) -> None:
    before = notebook_digest(tiny)
    content = json.loads(tiny.read_text())
    content["cells"].append({"cell_type": "markdown", "metadata": {}, "source": "a finding"})
    content["cells"][1]["execution_count"] = 7
    tiny.write_text(json.dumps(content))
    assert notebook_digest(tiny) == before
    content["cells"][1]["source"] += "\n1 + 1"
    tiny.write_text(json.dumps(content))
    assert notebook_digest(tiny) != before
