"""What a notebook's ``parameters`` cell declares."""

import ast
import io
import json
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REQUIRED = object()
UNKNOWN = object()


@dataclass(frozen=True)
class Parameter:
    """One assignment of the cell.

    Attributes:
        name: the variable's name.
        kind: its annotation as written, or the type of its default; empty when neither says.
        default: its literal value, ``REQUIRED`` (annotated only) or ``UNKNOWN`` (an expression).
        choices: the values of its ``Literal[...]``, else empty.
        help: the comment at the end of its line.
    """

    name: str
    kind: str
    default: Any
    choices: tuple[Any, ...] = ()
    help: str = ""


def read_parameters(notebook: Path | str) -> dict[str, Parameter]:
    """Return the parameters of a notebook by name; empty when it has no ``parameters`` cell.

    The cell is parsed, never run. papermill's own inspection reads line by line and loses
    annotations such as ``Literal["a", "b"]``, hence this one.

    Raises:
        ValueError: the file is no notebook, or its ``parameters`` cell is no valid Python.
    """
    for cell in read_cells(notebook):
        if "parameters" in cell.get("metadata", {}).get("tags", []):
            return _parse(source_of(cell), notebook)
    return {}


def read_cells(notebook: Path | str) -> list[dict[str, Any]]:
    """Return the cells of a notebook file."""
    try:
        cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    except FileNotFoundError:
        raise ValueError(f"No notebook at {notebook}: give the path of an .ipynb file.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{notebook} is no notebook of format 4: expected JSON with `cells` ({error}). "
            "Open and save it in JupyterLab."
        ) from None
    return list(cells)


def source_of(cell: Mapping[str, Any]) -> str:
    """Return a cell's source as one string."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def _parse(source: str, notebook: Path | str) -> dict[str, Parameter]:
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise ValueError(
            f"The `parameters` cell of {notebook} is no valid Python, line {error.lineno}: "
            f"{error.msg}."
        ) from None
    comments = _comments(source)
    found: dict[str, Parameter] = {}
    for node in statements:
        note = comments.get(node.end_lineno or 0, "")
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            default = REQUIRED if node.value is None else _literal(node.value)
            annotation = _unquoted(node.annotation)
            found[node.target.id] = Parameter(
                node.target.id, ast.unparse(annotation), default, choices_of(annotation), note
            )
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    default = _literal(node.value)
                    known = default is not UNKNOWN and default is not None
                    kind = type(default).__name__ if known else ""
                    found[target.id] = Parameter(target.id, kind, default, (), note)
    return found


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}


def _literal(node: ast.expr) -> Any:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return UNKNOWN
    return list(value) if isinstance(value, tuple) else value


def _unquoted(annotation: ast.expr) -> ast.expr:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return ast.parse(annotation.value, mode="eval").body
    return annotation


def choices_of(annotation: ast.expr) -> tuple[Any, ...]:
    """Return the values of a ``Literal[...]`` annotation, else nothing."""
    if isinstance(annotation, ast.Subscript) and name_of(annotation.value) == "Literal":
        items = annotation.slice
        nodes = items.elts if isinstance(items, ast.Tuple) else [items]
        return tuple(_literal(node) for node in nodes)
    return ()


def name_of(node: ast.expr) -> str:
    """Return the last name of ``a`` or ``module.a``."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
