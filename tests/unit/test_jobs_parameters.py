"""Parameters: what a notebook declares, and what may be given."""

from __future__ import annotations

import ast
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub_config.errors import Invalid
from hub_config.jobs.parameters import Parameter, check_names, declared, validate

SOURCE = """\
# what the model may do
max_depth: int = 4  # how deep a tree may grow
rate = 0.5
name = "ada"  # the "name" # of it
flag: bool = False
layers = [
    1,
    2,
]  # sizes
options = {"a": None}
limit: int | None = None
when: "float | None" = None  # seconds
anything = None
folder = Path("x") / "y"
sizes: list[int] = [3]
required: int
a, b = 1, 2
x.y = 3
"""


def notebook(source, tag="parameters"):
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": "# Title"},
        {"cell_type": "code", "metadata": {"tags": [tag]}, "source": source.splitlines(True)},
    ]
    return json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5}).encode()


def known(source=SOURCE):
    return {p.name: p for p in declared(notebook(source))}


def test_each_plain_assignment_declares_a_parameter():
    found = known()
    assert list(found) == [
        *("max_depth", "rate", "name", "flag", "layers", "options", "limit", "when", "anything"),
        *("folder", "sizes"),
    ]
    assert found["max_depth"] == Parameter("max_depth", "int", 4, "how deep a tree may grow")
    assert found["rate"] == Parameter("rate", "float", 0.5)
    assert found["name"] == Parameter("name", "str", "ada", 'the "name" # of it')
    assert found["layers"] == Parameter("layers", "list", [1, 2], "sizes")
    assert found["limit"] == Parameter("limit", "int", None, nullable=True)
    assert found["when"] == Parameter("when", "float", None, "seconds", nullable=True)
    assert found["anything"] == Parameter("anything", "", None, nullable=True)
    assert found["folder"] == Parameter("folder", "", 'Path("x") / "y"', computed=True)
    assert found["sizes"].type == "list"


def test_reading_never_executes():
    found = known("x = __import__('os').system('touch /tmp/executed')")
    assert found["x"].computed


def test_no_tagged_cell_no_parameters():
    assert declared(notebook(SOURCE, tag="other")) == []
    assert declared(json.dumps({"cells": []}).encode()) == []


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"cells": 3}'])
def test_what_is_no_notebook_is_refused(data):
    with pytest.raises(Invalid, match="not a Jupyter notebook"):
        declared(data)


def test_a_broken_parameters_cell_says_where():
    with pytest.raises(Invalid, match="line 2"):
        declared(notebook("a = 1\nb = = 2"))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("max_depth", "7", 7),
        ("max_depth", 7.0, 7),
        ("max_depth", " -3 ", -3),
        ("rate", "1e-3", 0.001),
        ("rate", 1, 1.0),
        ("name", "12", "12"),
        ("name", "", ""),
        ("flag", "true", True),
        ("flag", "No", False),
        ("flag", True, True),
        ("layers", "[3, 4]", [3, 4]),
        ("options", '{"b": [1]}', {"b": [1]}),
        ("limit", "None", None),
        ("limit", None, None),
        ("limit", "5", 5),
        ("anything", "5", 5),
        ("anything", "five", "five"),
        ("folder", "data", "data"),
    ],
)
def test_values_take_the_declared_type(name, value, expected):
    result = validate(known().values(), {name: value})[name]
    assert result == expected and type(result) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("max_depth", "4.5", "a whole number, not '4.5'"),
        ("max_depth", 4.5, "a whole number"),
        ("max_depth", True, "a whole number"),
        ("max_depth", None, "a whole number, not None"),
        ("max_depth", [4], "a whole number"),
        ("rate", "fast", "a number, not 'fast'"),
        ("rate", "nan", "a number"),
        ("rate", float("inf"), "a number"),
        ("rate", False, "a number"),
        ("name", 5, "text, not 5"),
        ("name", None, "text"),
        ("flag", "maybe", "true or false"),
        ("flag", 2, "true or false"),
        ("layers", "3", "a list as JSON"),
        ("layers", "{}", "a list"),
        ("options", "[]", "a mapping"),
    ],
)
def test_a_wrong_value_is_refused_by_name_and_type(name, value, word):
    with pytest.raises(Invalid) as refused:
        validate(known().values(), {name: value})
    assert f"The parameter {name} must be {word}" in refused.value.detail
    assert refused.value.extra["parameter"] == name


def test_an_unknown_name_lists_those_known_and_the_nearest():
    with pytest.raises(Invalid) as refused:
        validate(known().values(), {"max_deph": 3})
    assert "max_depth, rate" in refused.value.detail
    assert "Did you mean 'max_depth'?" in refused.value.detail
    with pytest.raises(Invalid, match="nor any other"):
        validate([], {"a": 1})


@pytest.mark.parametrize(
    "name", ["x=1;import os", "x\nimport os", "", "1a", "a b", "a.b", "class", "None", "é-", 3]
)
def test_a_name_that_is_no_identifier_is_refused(name):
    with pytest.raises(Invalid, match="cannot be the name"):
        check_names([name])
    with pytest.raises(Invalid, match="cannot be the name"):
        validate([Parameter(str(name), "int", 1)], {name: 1})


def test_values_are_bounded_and_plain():
    everything = [Parameter("a", "", None), Parameter("l", "list", [])]
    with pytest.raises(Invalid, match=r"more than 65,536"):
        validate(everything, {"a": "x" * 70_000})
    with pytest.raises(Invalid, match="without NaN"):
        validate(everything, {"l": [float("nan")]})
    with pytest.raises(Invalid, match="without NaN"):
        validate(everything, {"a": "NaN"})


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, width=32),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(values)
def test_papermill_writes_a_value_and_never_code(value):
    """What papermill puts into the notebook is one assignment of exactly that value."""
    from papermill.translators import PythonTranslator

    body = ast.parse(PythonTranslator.codify({"a": value})).body
    assert len(body) == 1 and isinstance(body[0], ast.Assign)
    if "inf" not in repr(value):
        assert ast.literal_eval(body[0].value) == value
