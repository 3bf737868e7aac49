"""Every raise has a test: a plugin of pytest that names the `raise` statements of the package that no test has run.

Usage, over all tests:

    PYTHONPATH=tests python -m pytest -p raises

The package's modules are compiled with a note before each `raise`. That costs nothing; to have Python 3.11 tell of
every line, as coverage does, takes a fifth of the time. Only what runs in the tests' own processes is noted. That is
enough: what tests call on workers raises in-process too.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
from functools import cache
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "cwt_dask"
NOTE = "__note_raise__"
# A statement; one that only looks so, in a text, is noted by nobody.
STATEMENT = re.compile(r"^ *(?=raise\b)")
# File and line of each raise that was run.
run: set[tuple[str, int]] = set()


class Loader(SourceFileLoader):
    def path_stats(self, path: str) -> dict[str, float]:
        # What is compiled here is neither taken from a cache nor put there.
        raise OSError(path)

    def source_to_code(self, data: bytes, path: str) -> object:
        lines = data.decode().split("\n")
        noted = (STATEMENT.sub(rf"\g<0>{NOTE}(({path!r}, {number})); ", line) for number, line in enumerate(lines, 1))
        return compile("\n".join(noted), path, "exec", dont_inherit=True)


class Finder:
    @staticmethod
    def find_spec(name, path=None, _=None):
        if name.partition(".")[0] != PACKAGE.name:
            return None
        spec = PathFinder.find_spec(name, path or [str(PACKAGE.parent)])
        if spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = Loader(name, spec.origin)
        return spec


@cache
def raises_of_the_package() -> dict[tuple[str, int], str]:
    """Every raise, and the line on which it stands."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Raise):
                found[str(path), node.lineno] = lines[node.lineno - 1].strip()
    return found


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Collect what a process of pytest-xdist has noted."""
    # One that died has noted nothing; pytest-xdist says that it did.
    run.update(getattr(node, "workeroutput", {}).get("raises", ()))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """Hand on what was noted, or fail where something is missing."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["raises"] = list(run)
    elif raises_of_the_package().keys() - run and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    """Say which raises have no test."""
    missing = {place: text for place, text in raises_of_the_package().items() if place not in run}
    for (path, number), text in missing.items():
        terminalreporter.write_line(f"{Path(path).relative_to(PACKAGE.parent)}:{number}: {text}")
    terminalreporter.write_line(f"{len(missing)} raises have no test" if missing else "every raise has a test")


setattr(builtins, NOTE, run.add)
sys.meta_path.insert(0, Finder)
