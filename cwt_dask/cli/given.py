"""The options that a call gives: typed, or in configuration files."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cwt_dask.config.options import OPTION_NAMES, Options, refuse_unknown
from cwt_dask.errors import SettingsError

# If one of them is typed, what the file says of the others does not count.
_WHERE = {"cluster", "scheduler", "scheduler_file"}


def given_options() -> dict[str, Any]:
    """Declared options of the configuration files, and over them those typed; defaults are not among them."""
    context = click.get_current_context()
    typed = typed_options(OPTION_NAMES)
    stored = _stored(context.params.get("config", ()))
    table, kind = stored.get("cluster"), typed.get("cluster")
    if isinstance(table, dict) and kind and table.get("kind", kind) == kind:
        # The kind given once more keeps the rest of the table.
        typed["cluster"] = table | {"kind": kind}
    if typed.keys() & _WHERE:
        stored = {name: value for name, value in stored.items() if name not in _WHERE}
    given = stored | typed
    # What is impossible is refused before libraries are loaded that take their time.
    Options.parse(given)
    return given


def typed_options(names: Collection[str]) -> dict[str, Any]:
    """Options of these names that were typed."""
    context = click.get_current_context()
    return {
        name: value
        for name, value in context.params.items()
        if name in names and context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }


def _stored(paths: tuple[str, ...]) -> dict[str, Any]:
    """Options of files, of which later ones win; of tables, such as [cluster], key by key."""
    stored: dict[str, Any] = {}
    for path in paths:
        try:
            # Editors of Windows begin a text with a byte order mark.
            content = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
            refuse_unknown(content)
        except OSError as error:
            raise SettingsError(f"cannot read {path}: {error.strerror}") from error
        except SettingsError as error:
            raise SettingsError(f"{path}: {error}") from error
        except (ValueError, RecursionError) as error:
            raise SettingsError(f"{path} is not TOML: {error}") from error
        stored = _merged(stored, content)
    return stored


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    both = {
        name: _merged(first[name], value)
        for name, value in second.items()
        if isinstance(value, dict) and isinstance(first.get(name), dict)
    }
    return first | second | both
