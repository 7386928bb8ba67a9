"""What a notebook declares in its ``parameters`` cell, and which values fit it.

A notebook is parsed, never run. papermill's own inspection reads line by line and loses
annotations such as ``Literal["a", "b"]``, hence this one.
"""

import ast
import contextlib
import hashlib
import io
import json
import math
import re
import tokenize
import typing
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import srsly
from pydantic import Strict, TypeAdapter, ValidationError

# Default of a parameter that is only annotated.
REQUIRED = object()
# Default of a parameter whose value is an expression.
UNKNOWN = object()

# Scalars are strict: True is no int and "1" no float. Containers take each other's content.
_TYPES: dict[str, Any] = {
    **{t.__name__: Annotated[t, Strict()] for t in (int, float, str, bool, bytes, complex)},
    **{t.__name__: t for t in (list, tuple, dict, set, frozenset)},
    **{name: getattr(typing, name) for name in ("Literal", "Optional", "Union")},
    "typing": typing,
    "Sequence": list,
    "Mapping": dict,
}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a notebook.

    Attributes:
        name: the variable's name.
        kind: its annotation as written, or the type of its default; empty when neither says.
        default: its literal value, ``REQUIRED`` or ``UNKNOWN``.
        help: the comment at the end of its line.
    """

    name: str
    kind: str = ""
    default: Any = UNKNOWN
    help: str = ""

    def checked(self, value: Any) -> Any:
        """Return the value as the annotation holds it: 1 as 1.0 for a ``float``.

        Raises:
            ValueError: the value does not fit; the message says what was expected.
        """
        try:
            value = value.tolist() if hasattr(value, "tolist") else value  # of NumPy
            value = TypeAdapter(_type_of(self.kind)).validate_python(value)
            source_of(value)
        except ValidationError as error:
            # of a Literal: its choices, quoted
            expected = error.errors()[0].get("ctx", {}).get("expected", self.kind)
            raise ValueError(
                f"`{self.name}`: expected {expected}, got {value!r} ({type(value).__name__})."
                + did_you_mean(value, re.findall("'(.+?)'", expected))
            ) from None
        except TypeError as error:  # no literal can say it
            raise ValueError(f"`{self.name}`: {error}.") from None
        return value


def read_parameters(notebook: Path | str) -> dict[str, Parameter]:
    """Return the parameters of a notebook by name; empty when it has no ``parameters`` cell.

    Raises:
        ValueError: the file is no Python notebook, or its cell is no valid Python.
    """
    for cell in read_cells(notebook):
        if "parameters" in cell.get("metadata", {}).get("tags", []):
            return _declared(_code_of(cell), notebook)
    return {}


def read_cells(notebook: Path | str) -> list[dict[str, Any]]:
    """Return the cells of a notebook file, the source of each as one text.

    Raises:
        ValueError: there is no such file, or it is no Python notebook of format 4.
    """
    try:
        content = json.loads(Path(notebook).read_text(encoding="utf-8"))
        cells = [{**cell, "source": "".join(cell.get("source", ""))} for cell in content["cells"]]
        about = content.get("metadata") or {}
    except (FileNotFoundError, IsADirectoryError):
        raise ValueError(f"No notebook at {notebook}: give the path of an .ipynb file.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{notebook} is no notebook of format 4: expected JSON with `cells` ({error}). "
            "Open and save it in JupyterLab."
        ) from None
    spec = about.get("kernelspec", {})
    language = spec.get("language") or about.get("language_info", {}).get("name") or "python"
    if str(language).lower() not in {"python", "ipython", "python3"}:
        raise ValueError(f"{notebook}: expected a Python notebook, got one in {language}.")
    return cells


def notebook_digest(notebook: Path | str) -> str:
    """Return the hash of a notebook's code cells; prose and outputs change no result."""
    code = [c["source"] for c in read_cells(notebook) if c.get("cell_type") == "code"]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def overwritten(notebook: Path | str, names: set[str]) -> Iterator[tuple[str, int]]:
    """Yield each parameter of ``names`` that a later cell assigns anew, with the cell's number.

    An assignment that reads the parameter (``limit = min(limit, 80)``) and one under ``if smoke``
    do not count. Cells are numbered from 1, all kinds together.
    """
    seen = False  # the parameters cell
    for number, cell in enumerate(read_cells(notebook), 1):
        if seen and cell.get("cell_type") == "code":
            with contextlib.suppress(SyntaxError):
                assigned = names & _assigned(ast.parse(_code_of(cell)))
                yield from ((name, number) for name in sorted(assigned))
        seen = seen or "parameters" in cell.get("metadata", {}).get("tags", [])


def check(
    values: Mapping[str, Any], declared: Mapping[str, Parameter]
) -> tuple[dict[str, Any], list[str]]:
    """Return the values as their parameters hold them, and a line for each that does not fit."""
    held, errors = {}, []
    known = ", ".join(declared) or "none; no cell tagged `parameters` declares any"
    for name, value in values.items():
        try:
            held[name] = declared[name].checked(value)
        except KeyError:
            hint = did_you_mean(name, declared) or f" Known: {known}."
            errors.append(f"`{name}`: the notebook has no such parameter.{hint}")
        except ValueError as error:
            errors.append(str(error))
    for name, parameter in declared.items():
        if parameter.default is REQUIRED and name not in values:
            errors.append(f"`{name}`: has no default; give a value of type {parameter.kind}.")
    return held, errors


def from_text(text: str, parameter: Parameter) -> Any:
    """Return what a command line's text means for a parameter.

    The first of these that fits: its value as a Python literal, its YAML value, the text itself.
    """
    readings: list[Any] = [text]
    for read in (read_yaml, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError):
            value = read(text.strip())
            readings.insert(0, text if isinstance(value, str) else value)
    for reading in readings:
        with contextlib.suppress(ValueError):
            parameter.checked(reading)
            return reading
    return readings[0]


def source_of(value: Any) -> str:
    """Return Python source for a value, always the same for equal values.

    Raises:
        TypeError: no literal can say it.
    """
    kind = type(value)
    if kind is float and not math.isfinite(value):
        return f"float('{value}')"
    if kind in {type(None), bool, int, float, complex, str, bytes}:
        return repr(value)
    if kind is dict:
        return "{" + ", ".join(f"{source_of(k)}: {source_of(v)}" for k, v in value.items()) + "}"
    if kind in {list, tuple, set, frozenset}:
        inner = [source_of(item) for item in value]
        listed = ", ".join(inner if kind in {list, tuple} else sorted(inner))
        if kind is tuple:
            return f"({listed}{',' * (len(inner) == 1)})"
        return f"[{listed}]" if kind is list else f"{kind.__name__}([{listed}])"
    raise TypeError(f"expected a value that a Python literal can say, got {kind.__name__}")


def read_yaml(text: str) -> Any:
    """Return the content of text in YAML 1.2: ``1e-3`` is a number, ``yes`` and a date are text.

    Raises:
        ValueError: the text is no such YAML, or a key is given twice.
    """
    reader = srsly.ruamel_yaml.YAML(typ="safe", pure=True)
    made = reader.constructor
    as_text = {"tag:yaml.org,2002:timestamp": type(made).construct_yaml_str}
    made.yaml_constructors = made.yaml_constructors | as_text
    try:
        return reader.load(text)
    except Exception as error:  # a key given twice is a Warning there, all else a YAMLError
        # what follows an empty line is advice to programmers
        raise ValueError(str(error).partition("\n\n")[0]) from None


def did_you_mean(name: Any, known: Any) -> str:
    """Return a sentence with the nearest known name, led by a space; empty when none is near."""
    near = get_close_matches(str(name), map(str, known), n=1, cutoff=0.5)
    return f" Did you mean `{near[0]}`?" if near else ""


def _code_of(cell: Mapping[str, Any]) -> str:
    return re.sub(r"(?m)^[ \t]*[%!].*$", "", cell["source"])


def _declared(code: str, notebook: Path | str) -> dict[str, Parameter]:
    try:
        statements = ast.parse(code).body
    except SyntaxError as error:
        raise ValueError(
            f"The `parameters` cell of {notebook} is no valid Python, line {error.lineno}: "
            f"{error.msg}."
        ) from None
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(code).readline)
        if token.type == tokenize.COMMENT
    }
    declared = {}
    for node in statements:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            for name, value in _bound(node):
                default = REQUIRED if value is None else _literal(value)
                kind = type(default).__name__ if type(default).__name__ in _TYPES else ""
                kind = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else kind
                declared[name] = Parameter(
                    name, kind, default, help=comments.get(node.end_lineno or 0, "")
                )
    return declared


# The names that an assignment binds, as ``a`` or ``a, b``, each with its value: None where there is
# none, the name itself where it cannot be told.
def _bound(node: ast.Assign | ast.AnnAssign) -> Iterator[tuple[str, ast.expr | None]]:
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        names = getattr(target, "elts", [target])
        values = getattr(node.value, "elts", ()) if names != [target] else [node.value]
        for name, value in zip(names, values if len(values) == len(names) else names, strict=True):
            if isinstance(name, ast.Name):
                yield name.id, value


def _literal(node: ast.expr) -> Any:
    with contextlib.suppress(ValueError):
        return ast.literal_eval(node)
    return UNKNOWN


def _assigned(node: ast.AST) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    smoke = isinstance(node, ast.If) and "smoke" in ast.unparse(node.test)
    # ``x += 1`` reads what it changes.
    if smoke or isinstance(
        node, ast.AugAssign | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    ):
        return set()
    assigned = set().union(*map(_assigned, ast.iter_child_nodes(node)))
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        assigned.add(node.id)
    if isinstance(node, ast.Assign | ast.AnnAssign):
        names = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
        assigned -= {name.id for name in names if isinstance(name.ctx, ast.Load)}
    return assigned


# The type that an annotation says, for pydantic; Any where it is a library's own.
def _type_of(kind: str) -> Any:
    with contextlib.suppress(Exception):  # as of a generic that takes no such argument
        tree = ast.parse(kind, mode="eval")
        # names, brackets and bars: nothing of the notebook's is called
        if not any(isinstance(node, ast.Call) for node in ast.walk(tree)):
            code, names = compile(tree, "annotation", "eval"), defaultdict(lambda: Any, _TYPES)
            declared = eval(code, {"__builtins__": {}}, names)
            TypeAdapter(declared)
            return declared
    return Any
