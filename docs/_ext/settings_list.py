"""Lists of options, made of the dataclasses that declare them: `{settings} cwt_dask.config.Settings`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from cwt_dask.cli.options import flag_of
from cwt_dask.config.declaration import options_of

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class SettingsList(SphinxDirective):
    """An entry for each option: its type, its default, how it is typed, and what it is for."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Give the list."""
        module, _, name = self.arguments[0].rpartition(".")
        lines = entries(getattr(import_module(module), name))
        parent = nodes.Element()
        self.state.nested_parse(StringList(lines, self.arguments[0]), self.content_offset, parent)
        return parent.children


def entries(declared: Any) -> list[str]:
    """Lines of Markdown about the options that a dataclass declares."""
    lines: list[str] = []
    for option in options_of(declared):
        default = None if option.default is None else option.kind.text(option.default)
        about = [f"*{option.type_text}*", f"default `{default}`"]
        # Those of a table in the file are no options of the command line.
        about += [] if declared.prefix else [f"`{flag_of(option.name)}`"]
        lines += [f"`{option.name}`", f": {'; '.join(about)}", "", f"  {option.help}", ""]
    return lines


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("settings", SettingsList)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
