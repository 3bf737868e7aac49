"""Every raise has a test: names the `raise` lines of the package that no test has run, and fails if there are any.

Usage, after which it reads what coverage has measured:

    coverage run --source=cwt_dask -m pytest
    python tests/raises.py

Only what runs in the tests' own process is measured. That is enough: what tests call on workers raises in-process too.
"""

import ast
import sys
from pathlib import Path

import coverage

PACKAGE = Path(__file__).resolve().parents[1] / "cwt_dask"


def raises_not_run(measured: coverage.Coverage) -> list[str]:
    """File, line and text of every raise that was not run."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        missing = set(measured.analysis2(str(path))[3])
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        found += [
            f"{path.relative_to(PACKAGE.parent)}:{number}: {lines[number - 1].strip()}"
            for number in sorted(node.lineno for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Raise))
            if number in missing
        ]
    return found


def main() -> int:
    """Say which raises have no test."""
    measured = coverage.Coverage()
    measured.load()
    found = raises_not_run(measured)
    sys.stdout.writelines(f"{line}\n" for line in found)
    sys.stdout.write(f"{len(found)} raises have no test\n" if found else "every raise has a test\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
