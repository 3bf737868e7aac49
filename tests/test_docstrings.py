"""Docstrings: complete as numpydoc checks them, with parameters and examples, and examples that run."""

import ast
import doctest
import re
from enum import EnumType
from functools import cached_property
from importlib import import_module
from pathlib import Path

import pytest
from numpydoc.validate import validate

import cwt_dask

PACKAGE = Path(cwt_dask.__file__).parent
PAGE = PACKAGE.parent / "docs" / "api.md"
DIRECTIVE = re.compile(r"^\.\. (currentmodule|autoclass|autofunction):: (\S+)$((?:\n   .*)*)", re.MULTILINE)
# What numpydoc would like to see and what we leave out on purpose.
LEFT_OUT = {
    "ES01",  # an extended summary, where the first line says all
    "GL08",  # no docstring: members without one are not shown
    "SA01",  # see also: the page stands together
}
MANY_PARAMETERS = 3


def is_described(value):
    """Whether a member of a class has a docstring of its own; that of a class describes its data."""
    return isinstance(value, property | cached_property | classmethod | staticmethod) or hasattr(value, "__code__")


def shown():
    """Full names of all that the page shows, objects and public members of classes, and the codes to leave out."""
    module = ""
    for directive, name, options in DIRECTIVE.findall(PAGE.read_text(encoding="utf-8")):
        if directive == "currentmodule":
            module = name
            continue
        full = f"{module}.{name}"
        if isinstance(thing := getattr(import_module(module), name), EnumType):
            # What it takes is the business of Python's own.
            continue
        yield full, LEFT_OUT
        if ":members:" in options:
            own = [kind for kind in thing.__mro__ if kind.__module__.startswith("cwt_dask")]
            members = {name for kind in own for name, value in vars(kind).items() if is_described(value)}
            # Examples are those of the class.
            yield from ((f"{full}.{member}", LEFT_OUT | {"EX01"}) for member in sorted(members) if member[0] != "_")


SHOWN = dict(shown())


def test_the_public_interface_is_shown():
    assert {f"cwt_dask.{name}" for name in cwt_dask.__all__ if name != "__version__"} <= set(SHOWN)


@pytest.mark.parametrize("name", SHOWN)
def test_a_docstring_is_complete(name):
    errors = {code: words for code, words in validate(name)["errors"] if code not in SHOWN[name]}
    assert not errors


def functions(body):
    """Public functions, and methods of public classes."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from functions(node.body)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node


def test_functions_of_many_parameters_describe_them():
    undescribed = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for function in functions(ast.parse(path.read_text(encoding="utf-8")).body):
            given = function.args
            names = [each.arg for each in given.posonlyargs + given.args + given.kwonlyargs]
            many = len({*names} - {"self", "cls"}) >= MANY_PARAMETERS
            if many and "Parameters\n---" not in (ast.get_docstring(function) or ""):
                undescribed.append(f"{path.relative_to(PACKAGE.parent)}:{function.lineno} {function.name}")
    assert not undescribed


WITH_EXAMPLES = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_examples_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    outcome = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert outcome.attempted > 0
    assert outcome.failed == 0
    assert not list(tmp_path.iterdir())
