"""Lists of settings, made of the dataclasses that hold them: `{settings} cwt_dask.config.Settings`."""

from __future__ import annotations

from dataclasses import MISSING, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click
from docutils import nodes
from docutils.statemachine import StringList
from numpydoc.docscrape import ClassDoc
from sphinx.util.docutils import SphinxDirective

from cwt_dask.cli.commands import cli

if TYPE_CHECKING:
    from dataclasses import Field

    from sphinx.application import Sphinx


class SettingsList(SphinxDirective):
    """An entry a field: type and description from the docstring, default from the dataclass, option from click."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Give the list.

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
        lines: list[str] = []
        for name, parameter in described.items():
            entry = [f"*{parameter.type.removesuffix(', optional')}*", _default(known[name]), _option(name)]
            lines += [f"`{name}`", f": {'; '.join(filter(None, entry))}", "", *_indented(parameter.desc), ""]
        parent = nodes.Element()
        self.state.nested_parse(StringList(lines, self.arguments[0]), self.content_offset, parent)
        return parent.children


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _default(field: Field[Any]) -> str:
    if field.default is MISSING:
        return ""
    if isinstance(field.default, int) and field.default >= 2**20 and field.default % 2**30 == 0:
        return f"default `{field.default // 2**30}GiB`"
    return f"default `{field.default}`"


def _option(name: str) -> str:
    parameters = [parameter for parameter in cli.commands["run"].params if isinstance(parameter, click.Option)]
    return next((f"`{parameter.opts[0]}`" for parameter in parameters if parameter.name == name), "")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("settings", SettingsList)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
