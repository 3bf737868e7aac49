"""Options of the command line that follow from the dataclasses which declare them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

import click

from cwt_dask.config.declaration import Option, options_of
from cwt_dask.config.validation import Choice, Flag, Kind, Number, Several, Whole


def declared_options(*declared: type, only: Collection[str] = ()) -> Callable[..., Any]:
    """Decorate a command with options that dataclasses declare, in their order; of two of one name the first.

    Parameters
    ----------
    *declared : type
        The dataclasses.
    only : collection of str, optional
        Names of the options; all unless given.
    """
    named: dict[str, Option] = {}
    for option in (option for kind in declared for option in options_of(kind)):
        if not only or option.name in only:
            named.setdefault(option.name, option)
    options = list(named.values())
    flags = {option.name: flag_of(option.name) for option in options}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            text = re.sub(r"`([^`]+)`", lambda match: flags.get(match[1], match[1]), option.help)
            command = click.option(flag_of(option.name), help=text, **_keywords(option))(command)
        return command

    return decorate


def flag_of(name: str) -> str:
    """An option as it is typed."""
    return f"--{name.replace('_', '-')}"


def _keywords(option: Option) -> dict[str, Any]:
    if isinstance(option.kind, Flag):
        return {"is_flag": True}
    default = None if option.default is None else option.kind.text(option.default)
    keywords = {"type": _type_of(option.kind), "default": default, "show_default": True, "metavar": option.metavar}
    return keywords | ({"multiple": True} if isinstance(option.kind, Several) else {})


def _type_of(kind: Kind) -> Any:
    match kind:
        case Choice(words):
            return click.Choice(words)
        case Whole(auto=True):
            return _NumberOr("PIXELS|auto", int, lambda text: text == "auto")
        case Whole():
            return int
        case Number(or_text=True):
            return _NumberOr("PIXELS|DEG", float, lambda _: True)
        case Number():
            return float
    return str


class _NumberOr(click.ParamType):  # type: ignore[type-arg] # which it takes since click 8.4
    """A number, or some texts."""

    def __init__(self, name: str, number: type, is_text: Callable[[str], bool]) -> None:
        self.name, self.number, self.is_text = name, number, is_text

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self.number(value)
        except ValueError:
            if self.is_text(value):
                return value
            self.fail(f"{value} is not {self.name}", param, ctx)
