"""Run the benchmarks and write their tables into docs/performance.md, all or those that are named.

    python benchmarks/performance.py
    python benchmarks/performance.py step libraries
    python benchmarks/performance.py --quick          # tiny sizes: prints the tables, leaves the page alone

Each is a script of its own, and stands on the page between <!-- name --> and <!-- /name -->.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from common import ONE_THREAD, machine, parser, say

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"

# Parts of the page, in its order, by the scripts that make them.
PARTS = {
    "step": "step.py",
    "libraries": "libraries.py",
    "codecs": "map_codecs.py",
    "sizes": "sizes.py",
    "workers": "workers.py",
    "overhead": "overhead.py",
    "driver": "driver.py",
    "start": "start.py",
    "rows": "rows.py",
    "sources": "sources.py",
    "memory": "memory.py",
    "map_overlap": "map_overlap.py",
    "events": "events.py",
}


def measured(part: str, options: list[str]) -> str:
    """Tables of a part, as its script prints them."""
    command = [sys.executable, str(HERE / PARTS[part]), *options]
    done = subprocess.run(command, env=os.environ | ONE_THREAD, stdout=subprocess.PIPE, text=True, check=True)
    return f"{machine()}.\n\n{done.stdout.strip()}\n"


def page(text: str, part: str, tables: str) -> str:
    """The text of the page with the tables of a part replaced."""
    begin, end = f"<!-- {part} -->\n", f"<!-- /{part} -->\n"
    before, rest = text.split(begin)
    return f"{before}{begin}\n{tables}\n{end}{rest.split(end)[1]}"


def main() -> None:
    """Measure, and write each part as soon as it is there."""
    options = parser(__doc__)
    options.add_argument("parts", nargs="*", metavar="part", help=f"any of {', '.join(PARTS)}")
    arguments = options.parse_args()
    if unknown := set(arguments.parts) - PARTS.keys():
        options.error(f"there is no part {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    passed_on = ["--scratch", str(arguments.scratch), *(["--quick"] if arguments.quick else [])]
    for part in arguments.parts or PARTS:
        say(f"-- {part}")
        tables = measured(part, passed_on)
        print(f"{tables}", flush=True)
        if not arguments.quick:
            PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), part, tables), encoding="utf-8")


if __name__ == "__main__":
    main()
