"""An option is declared once, as a field of a dataclass.

From it follow its check, its option of the command line, its entry in `docs/settings.md`, and its line in the
docstring of the class.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, TypeVar, dataclass_transform

from cwt_dask.config.validation import Choice, Kind

_T = TypeVar("_T")


@dataclass(frozen=True)
class Option:
    """What a field declares."""

    # Name and annotation of the field.
    name: str
    type: str
    default: Any  # Where it is None, None is a value, too.
    kind: Kind  # What values it takes.
    help: str  # What it is for; names of other options stand between backticks.
    metavar: str | None  # What stands for the value in the help of the command line, if not the usual for its kind.

    @property
    def type_text(self) -> str:
        """Type of its values, as numpydoc writes types."""
        if isinstance(self.kind, Choice) and isinstance(self.default, str):
            return "{" + ", ".join(f'"{word}"' for word in self.kind.words) + "}"
        return self.type.replace(" | ", " or ").replace("Auto", '"auto"')


def option(default: Any, kind: Kind, help: str, *, metavar: str | None = None) -> Any:  # noqa: A002 - as click calls it
    """A field that is an option.

    Parameters
    ----------
    default : Any
        A class stands for what it makes without arguments.
    kind : Kind
        What values it takes.
    help : str
        What it is for; names of other options stand between backticks.
    metavar : str, optional
        What stands for the value in the help of the command line.
    """
    metadata = {"kind": kind, "help": help, "metavar": metavar}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def options_of(declared: type) -> Iterator[Option]:
    """Options that a dataclass declares, in the order of its fields."""
    for each in fields(declared):
        default = each.default if each.default_factory is MISSING else each.default_factory()
        yield Option(each.name, str(each.type), default, **each.metadata)


def option_names(declared: type) -> list[str]:
    """Names of the options that a dataclass declares."""
    return [each.name for each in fields(declared)]


class Checked:
    """Base of the dataclasses of options: each value is checked, and kept in one form."""

    # What messages put before the name of an option.
    prefix: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for declared in options_of(type(self)):
            value = getattr(self, declared.name)
            if value is not None or declared.default is not None:
                # 3, 3.0 and numpy's 3.0 are one setting: they must have one digest.
                value = declared.kind.check(self.prefix + declared.name, value)
                object.__setattr__(self, declared.name, value)


@dataclass_transform(frozen_default=True)
def declaration(declared: type[_T]) -> type[_T]:
    """Make a frozen dataclass whose docstring lists the options that it declares."""
    made = dataclass(frozen=True)(declared)
    summary, _, rest = inspect.cleandoc(made.__doc__ or "").partition("\n\n")
    entries = [f"{each.name} : {each.type_text}\n    {each.help}" for each in options_of(made)]
    lines = [summary, "", "Parameters", "----------", *entries, "", rest]
    made.__doc__ = "\n".join(lines).rstrip() + "\n"
    return made
