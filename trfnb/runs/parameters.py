"""Whether values fit a notebook's parameters, all faults at once."""

import ast
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from trfnb.runs.notebook import REQUIRED, Parameter, choices_of, name_of

_SCALARS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (float, int),
    "str": (str,),
    "bool": (bool,),
    "list": (list,),
    "tuple": (list,),
    "dict": (dict,),
}


class ParameterError(ValueError):
    """One or more parameters don't fit the notebook; ``faults`` holds a line for each."""

    def __init__(self, notebook: Path | str, faults: Iterable[str]):
        self.faults = tuple(faults)
        lines = "\n".join(f"  - {fault}" for fault in self.faults)
        super().__init__(f"Parameters that don't fit {notebook}:\n{lines}")


def fits(value: Any, kind: str) -> bool:
    """Return whether a value fits an annotation; an annotation we can't read fits all."""
    return not kind or _fits(value, ast.parse(kind, mode="eval").body)


def _fits(value: Any, node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _fits(value, node.left) or _fits(value, node.right)
    if isinstance(node, ast.Constant) and node.value is None:
        return value is None
    if isinstance(node, ast.Subscript):
        outer, inner = name_of(node.value), node.slice
        if outer == "Literal":
            return any(value == c and type(value) is type(c) for c in choices_of(node))
        if outer == "Optional":
            return value is None or _fits(value, inner)
        if outer == "Union":
            options = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            return any(_fits(value, option) for option in options)
        if outer in {"list", "List", "Sequence"}:
            return isinstance(value, list) and all(_fits(item, inner) for item in value)
        if outer in {"tuple", "Tuple"}:
            return isinstance(value, list)
        if outer in {"dict", "Dict", "Mapping"}:
            return isinstance(value, dict)
        return True
    types = _SCALARS.get(name_of(node))
    if types is None:
        return True
    # bool is an int to Python, never to a person
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))


def from_text(text: str, parameter: Parameter | None) -> Any:
    """Return what a command line's text means: itself for a ``str``, else its YAML value."""
    if parameter is not None:
        if fits("", parameter.kind) and not fits(0, parameter.kind):
            return None if text in {"null", "None"} and fits(None, parameter.kind) else text
        if text in {"None", "True", "False"}:
            return ast.literal_eval(text)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str):
        # YAML 1.1 reads 1e-5 as text
        try:
            return float(value)
        except ValueError:
            return value
    return value


def normalised(value: Any, kind: str) -> Any:
    """Return the value as its annotation would hold it: 1 becomes 1.0 for a ``float``."""
    if isinstance(value, tuple):
        return list(value)
    if not kind or isinstance(value, bool) or not isinstance(value, int | str):
        return value
    names = {n.id for n in ast.walk(ast.parse(kind)) if isinstance(n, ast.Name)}
    if "float" not in names or names & {"int", "str"}:
        return value
    try:
        return float(value)
    except ValueError:
        return value


def faults_of(values: Mapping[str, Any], declared: Mapping[str, Parameter]) -> list[str]:
    """Return a line for each value that has no parameter, or not the parameter's type."""
    faults = []
    for name, value in values.items():
        parameter = declared.get(name)
        if parameter is None:
            near = get_close_matches(name, declared, n=1, cutoff=0.5)
            hint = f"did you mean `{near[0]}`?" if near else f"known: {_listed(declared)}."
            faults.append(f"`{name}`: the notebook has no such parameter; {hint}")
        elif parameter.choices and not fits(value, parameter.kind):
            near = get_close_matches(str(value), map(str, parameter.choices), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            options = ", ".join(map(repr, parameter.choices))
            faults.append(f"`{name}`: expected one of {options}, got {value!r}.{hint}")
        elif not fits(value, parameter.kind):
            got = f"{value!r} ({type(value).__name__})"
            faults.append(f"`{name}`: expected {parameter.kind}, got {got}.")
    for name, parameter in declared.items():
        if parameter.default is REQUIRED and name not in values:
            faults.append(f"`{name}`: has no default; give a value of type {parameter.kind}.")
    return faults


def _listed(declared: Mapping[str, Parameter]) -> str:
    return ", ".join(f"`{name}`" for name in declared) or "none (no cell tagged `parameters`)"
