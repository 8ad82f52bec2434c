"""The parameters of a notebook: those its cell tagged `parameters` assigns.

The cell is read, never executed. Each plain assignment declares one: its name, its default, its
type (from the annotation, else from the default) and a help text (the comment on its line):

    max_depth: int = 4  # how deep a tree may grow

What is given is checked against that and converted, since the command line and forms only have
text. Values reach the notebook through papermill's translators, which quote them; names do not, so
a name must be an identifier and one that the notebook declares.
"""

from __future__ import annotations

import ast
import difflib
import io
import json
import keyword
import math
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hub_config.errors import Invalid

MAX_BYTES = 65_536  # of all values of a run together, as JSON

WORDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "list": "a list as JSON, such as [1, 2]",
    "dict": 'a mapping as JSON, such as {"a": 1}',
}


@dataclass(frozen=True)
class Parameter:
    """One parameter. `type` is a key of `WORDS`, or empty where the notebook does not tell.

    `default` is the value if it is a literal, else its source text (`computed` is then true).
    """

    name: str
    type: str
    default: Any
    help: str = ""
    nullable: bool = False
    computed: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


# Reading ------------------------------------------------------------------------------------------


def declared(notebook: bytes) -> list[Parameter]:
    """The parameters that a notebook declares, in their order; none where no cell is tagged.

    Raises `Invalid` for what is no notebook, or whose cell `parameters` is no Python.
    """
    try:
        cells = json.loads(notebook)["cells"]
        tagged = [c for c in cells if "parameters" in c.get("metadata", {}).get("tags", [])]
        source = "".join(tagged[0]["source"]) if tagged else ""
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Invalid("This file is not a Jupyter notebook (nbformat 4).") from error
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        raise Invalid(
            f"The cell tagged 'parameters' is not valid Python: {error.msg}, line {error.lineno}."
        ) from error
    comments = _comments(source)
    found: dict[str, Parameter] = {}
    for statement in body:
        value: ast.expr | None
        annotation: ast.expr | None
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                annotation = None
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=value):
                pass
            case _:
                continue
        if value is None:
            continue
        note = comments.get(statement.end_lineno or 0, "")
        found[name] = _parameter(name, value, annotation, note, source)
    return list(found.values())


def _comments(source: str) -> dict[int, str]:
    """Line → the comment on it."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("#").strip() for t in tokens if t.type == tokenize.COMMENT}


def _parameter(
    name: str, value: ast.expr, annotation: ast.expr | None, note: str, source: str
) -> Parameter:
    try:
        default, computed = ast.literal_eval(value), False
        json.dumps(default, allow_nan=False)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        default, computed = ast.get_source_segment(source, value), True
    if isinstance(default, tuple):
        default = list(default)
    kind, nullable = _annotated(annotation)
    if not kind and not computed and type(default).__name__ in WORDS:
        kind = type(default).__name__
    return Parameter(
        name, kind, default, note, nullable or (default is None and not computed), computed
    )


def _annotated(annotation: ast.expr | None) -> tuple[str, bool]:
    """The type that an annotation names (empty if we do not know it), and whether None may be."""
    match annotation:
        case ast.Name(id=name):
            return (name if name in WORDS else ""), False
        case ast.Constant(value=str(text)):
            try:
                return _annotated(ast.parse(text, mode="eval").body)
            except SyntaxError:
                return "", False
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return _annotated(inner)[0], True
        case ast.Subscript(value=ast.Name(id=name)):
            return (name if name in WORDS else ""), False
        case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)):
            return _annotated(left)[0], True
    return "", False


# Checking -----------------------------------------------------------------------------------------


def check_names(names: Iterable[object]) -> None:
    """Raise `Invalid` for a name that would become code in the notebook."""
    for name in names:
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
            raise Invalid(
                f"{name!r} cannot be the name of a parameter: use a Python name such as max_depth."
            )


def validate(parameters: Iterable[Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """The given values, converted to the declared types. Raises `Invalid`."""
    check_names(given)
    known = {p.name: p for p in parameters}
    result = {}
    for name, value in given.items():
        if name not in known:
            raise Invalid(_unknown(name, list(known)), parameter=name)
        result[name] = _convert(known[name], value)
    try:
        size = len(json.dumps(result, allow_nan=False))
    except (ValueError, TypeError, RecursionError) as error:
        raise Invalid(
            "Values of parameters must be plain JSON, without NaN or Infinity."
        ) from error
    if size > MAX_BYTES:
        raise Invalid(
            f"The parameters are {size:,} bytes as JSON, more than {MAX_BYTES:,}. "
            "Put large input into a file and give its path."
        )
    return result


def _unknown(name: str, known: list[str]) -> str:
    if not known:
        return (
            f"The notebook declares no parameter {name!r}, nor any other: "
            "it has no cell tagged 'parameters' that assigns one."
        )
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"The notebook declares no parameter {name!r}; it declares {', '.join(known)}.{hint}"


def _convert(parameter: Parameter, value: Any) -> Any:
    if value is None or (isinstance(value, str) and value in ("None", "null")):
        if parameter.nullable:
            return None
        if value is None:
            raise _refused(parameter, value)
    match parameter.type:
        case "":
            return _any(value)
        case "str" if isinstance(value, str):
            return value
        case "bool" if isinstance(value, bool):
            return value
        case "bool" if str(value).lower() in ("true", "false", "yes", "no", "on", "off", "1", "0"):
            return str(value).lower() in ("true", "yes", "on", "1")
        case "int" | "float" if isinstance(value, str | int | float) and value is not True:
            return _number(parameter, value)
        case "list" | "dict":
            read = _any(value) if isinstance(value, str) else value
            if type(read).__name__ == parameter.type:
                return read
    raise _refused(parameter, value)


def _number(parameter: Parameter, value: Any) -> int | float:
    try:
        if isinstance(value, bool):
            raise ValueError
        if parameter.type == "float":
            number = float(value)
            if not math.isfinite(number):
                raise ValueError
            return number
        if isinstance(value, float) and not value.is_integer():
            raise ValueError
        return int(value)
    except (ValueError, OverflowError) as error:
        raise _refused(parameter, value) from error


def _any(value: Any) -> Any:
    """A value of which nothing is known: text is read as JSON where it is JSON."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _refused(parameter: Parameter, value: Any) -> Invalid:
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}…"
    word = WORDS.get(parameter.type, "a JSON value")
    return Invalid(
        f"The parameter {parameter.name} must be {word}, not {shown}.",
        parameter=parameter.name,
        expected=parameter.type,
    )
