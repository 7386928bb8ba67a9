"""Conditions on parameters, as text that is read and never run as Python."""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

Condition = Callable[[Mapping[str, Any]], bool]

_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}


def compile_condition(condition: str | Callable[[dict[str, Any]], bool]) -> Condition:
    """Return a function of a run's parameters; functions pass through.

    Text may hold parameter names, literals, comparisons, ``in``, ``and``, ``or``, ``not`` and
    ``+ - * / %``.

    Raises:
        ValueError: the text is no such expression; at a call, that it names no parameter or
            compares what can't be compared.
    """
    if callable(condition):
        return lambda row: bool(condition(dict(row)))
    try:
        tree = ast.parse(condition, mode="eval").body
    except SyntaxError:
        raise ValueError(f"Condition {condition!r}: no valid expression.") from None

    def holds(row: Mapping[str, Any]) -> bool:
        try:
            return bool(_value(tree, row))
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise ValueError(f"Condition {condition!r}: {error}") from None

    return holds


def _value(node: ast.expr, row: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.List() | ast.Tuple() | ast.Set():
            return [_value(item, row) for item in node.elts]
        case ast.Name():
            if node.id not in row:
                raise KeyError(f"no parameter `{node.id}`; known: {', '.join(row)}")
            return row[node.id]
        case ast.BoolOp(op=ast.And()):
            return all(_value(part, row) for part in node.values)
        case ast.BoolOp():
            return any(_value(part, row) for part in node.values)
        case ast.UnaryOp(op=ast.Not()):
            return not _value(node.operand, row)
        case ast.UnaryOp(op=ast.USub()):
            return -_value(node.operand, row)
        case ast.BinOp() if type(node.op) in _ARITHMETIC:
            return _ARITHMETIC[type(node.op)](_value(node.left, row), _value(node.right, row))
        case ast.Compare():
            values = [_value(part, row) for part in (node.left, *node.comparators)]
            pairs = zip(node.ops, values, values[1:], strict=False)
            return all(_COMPARE[type(op)](a, b) for op, a, b in pairs)
    raise ValueError(f"`{ast.unparse(node)}` is not allowed in a condition")
