"""Tables of settings, made of the dataclasses that hold them: `{settings} cwt_dask.config.Settings`."""

from __future__ import annotations

from dataclasses import MISSING, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click
from docutils import nodes
from docutils.statemachine import StringList
from numpydoc.docscrape import ClassDoc
from sphinx.util.docutils import SphinxDirective

from cwt_dask.cli import cli

if TYPE_CHECKING:
    from dataclasses import Field

    from sphinx.application import Sphinx

HEADINGS = ("setting", "kind", "default", "what it does", "option")


class SettingsTable(SphinxDirective):
    """A row a field: name, type and description from the docstring, default from the dataclass, option from click."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Give the table.

        Raises
        ------
        ExtensionError
            If a field has no description of its own, or a description no field.
        """
        module, _, name = self.arguments[0].rpartition(".")
        kind = getattr(import_module(module), name)
        described = {parameter.name: parameter for parameter in ClassDoc(kind)["Parameters"]}
        known = {field.name: field for field in fields(kind)}
        if described.keys() != known.keys():
            raise self.error(f"{name}: described or a field, but not both: {described.keys() ^ known.keys()}")
        lines = ["```{list-table}", ":header-rows: 1", ":class: settings", ""]
        lines += _row(HEADINGS)
        for parameter in described.values():
            field = known[parameter.name]
            cells = f"`{field.name}`", _escaped(parameter.type), _default(field), " ".join(parameter.desc)
            lines += _row((*cells, _option(field.name)))
        parent = nodes.Element()
        self.state.nested_parse(StringList([*lines, "```"], self.arguments[0]), self.content_offset, parent)
        return parent.children


def _row(cells: tuple[str, ...]) -> list[str]:
    first, *others = cells
    return [f"* - {first}", *(f"  - {cell}" for cell in others)]


def _escaped(words: str) -> str:
    return words.removesuffix(", optional").replace("{", "").replace("}", "")


def _default(field: Field[Any]) -> str:
    if field.default is MISSING:
        return ""
    if isinstance(field.default, int) and field.default >= 2**20 and field.default % 2**30 == 0:
        return f"`{field.default // 2**30}GiB`"
    return "" if field.default is None else f"`{field.default}`"


def _option(name: str) -> str:
    parameters = [parameter for parameter in cli.commands["run"].params if isinstance(parameter, click.Option)]
    return next((f"`{parameter.opts[0]}`" for parameter in parameters if parameter.name == name), "")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("settings", SettingsTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
