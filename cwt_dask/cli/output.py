"""Commands that load libraries: what they print, and what libraries must not print or raise."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Any, TextIO

import click

from cwt_dask.cli.streams import lines_of_others
from cwt_dask.errors import InputError, RunError
from cwt_dask.runtime.terminal import visible

if TYPE_CHECKING:
    from cwt_dask.runtime.progress import Reporter


class WorkingCommand(click.Command):
    """A command that loads libraries, once the call is understood.

    While it works only `say` prints on standard output: what libraries print or log goes to standard error.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command; errors of libraries are those of this package."""
        ctx.obj = sys.stdout
        with redirect_stdout(sys.stderr):
            try:
                from cwt_dask.storage.paths import store_errors  # noqa: PLC0415 - not for help

                with store_errors():
                    return super().invoke(ctx)
            except OSError as error:
                # Here, since click leaves at once, and without a word, where a connection breaks.
                going_on = ": a run goes on where it stopped" if ctx.command.name in ("run", "reprocess") else ""
                raise RunError(f"{error}: mend that, and give the same command again{going_on}") from error
            except (ValueError, TypeError, AttributeError) as error:
                if library := _misconfigured(error):
                    raise InputError(f"{library} cannot be used ({error}): mend its configuration") from error
                raise


def output() -> TextIO:
    """Standard output, of the command that is called."""
    file: TextIO = click.get_current_context().obj
    return file


def say(text: str) -> None:
    """Print a line."""
    click.echo(visible(text), file=output())


def say_all(lines: Iterable[str]) -> None:
    """Print lines."""
    for line in lines:
        say(line)


@contextmanager
def reporting(given: dict[str, Any]) -> Iterator[Reporter]:
    """Report in the way that was asked for; JSON has what libraries write as events, a quiet run not at all."""
    from cwt_dask.runtime.progress import reporter  # noqa: PLC0415 - not for help

    quiet, log_format = given.get("quiet", False), given.get("log_format", "text")
    progress = reporter(output(), quiet=quiet, log_format=log_format)
    as_text = log_format == "text" and not quiet
    with nullcontext() if as_text else lines_of_others(lambda line: progress.event("log", text=line)):
        yield progress


def _misconfigured(error: BaseException) -> str:
    """The library that refuses its configuration, which it reads when it is imported, or says so; or nothing."""
    if type(error).__name__ == "BadConfigError":
        return "zarr"
    frames = traceback.walk_tb(error.__traceback__)
    modules = [frame.f_globals["__name__"] for frame, _ in frames if frame.f_code.co_name == "<module>"]
    # One of ours may be importing it.
    name = modules[-1].partition(".")[0] if modules else ""
    return "" if name == "cwt_dask" else name
