"""Docstrings of what docs/api.md shows are complete, as numpydoc checks them."""

import re
from enum import EnumType
from functools import cached_property
from importlib import import_module
from pathlib import Path

import pytest
from numpydoc.validate import validate

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
DIRECTIVE = re.compile(r"^\.\. (currentmodule|autoclass|autofunction):: (\S+)$((?:\n   .*)*)", re.MULTILINE)
# What numpydoc would like to see and what we leave out on purpose.
LEFT_OUT = {
    "ES01",  # an extended summary, where the first line says all
    "EX01",  # examples: they are on pages, where they are run
    "GL08",  # no docstring: members without one are not shown
    "SA01",  # see also: the page stands together
}


def is_described(value):
    """Whether a member of a class has a docstring of its own; that of a class describes its data."""
    return isinstance(value, property | cached_property | classmethod | staticmethod) or hasattr(value, "__code__")


def shown():
    """Full names of all that the page shows: objects, and public members of classes."""
    module = ""
    for directive, name, options in DIRECTIVE.findall(PAGE.read_text(encoding="utf-8")):
        if directive == "currentmodule":
            module = name
            continue
        full = f"{module}.{name}"
        if isinstance(thing := getattr(import_module(module), name), EnumType):
            # What it takes is the business of Python's own.
            continue
        yield full
        if ":members:" in options:
            own = [kind for kind in thing.__mro__ if kind.__module__.startswith("cwt_dask")]
            members = {name for kind in own for name, value in vars(kind).items() if is_described(value)}
            yield from sorted(f"{full}.{member}" for member in members if not member.startswith("_"))


SHOWN = list(shown())


def test_the_public_interface_is_shown():
    import cwt_dask

    assert {f"cwt_dask.{name}" for name in cwt_dask.__all__ if name != "__version__"} <= set(SHOWN)


@pytest.mark.parametrize("name", SHOWN)
def test_a_docstring_is_complete(name):
    errors = {code: words for code, words in validate(name)["errors"] if code not in LEFT_OUT}
    assert not errors
