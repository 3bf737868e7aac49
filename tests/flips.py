"""Files of a run by kind, and flips of one bit or one digit in them, drawn from a seed."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

# What each flip came to, by kind of file; printed at the end.
TABLE: dict[str, Counter[str]] = {}


def files_of(run_dir: Path) -> list[Path]:
    """All that have a content."""
    return sorted(path for path in run_dir.rglob("*") if path.is_file() and path.stat().st_size)


def kind_of(path: Path, run_dir: Path) -> str:
    """Which kind of file it is: its name without numbers; one of each folder of chunks."""
    name = str(path.relative_to(run_dir))
    name = re.sub(r"/c(/\d+)+$", "/chunk", name)
    name = re.sub(
        r"^(maps|seams|survey)\.zarr/(pyramid/)?(.*/)?", lambda m: f"{m[1]}.zarr/{m[2] or ''}*/" if m[3] else m[0], name
    )
    return re.sub(r"\d+", "N", name)


def drawn(run_dir: Path, dice: random.Random, number: int, leave_out: str = "$^") -> list[Path]:
    """So many files, of kinds by turns."""
    kinds: dict[str, list[Path]] = {}
    for path in files_of(run_dir):
        kind = kind_of(path, run_dir)
        if not re.search(leave_out, kind):
            kinds.setdefault(kind, []).append(path)
    order = dice.sample(sorted(kinds), len(kinds))
    found: list[Path] = []
    while len(found) < min(number, sum(map(len, kinds.values()))):
        for kind in order:
            left = [path for path in kinds[kind] if path not in found]
            found += dice.sample(left, min(1, len(left)))
    return found[:number]


def flip_one(path: Path, dice: random.Random) -> bytes:
    """Flip a bit, or change a digit where there is one; the content of before."""
    before = path.read_bytes()
    content = bytearray(before)
    digits = [n for n, byte in enumerate(content) if 48 <= byte <= 57] if dice.random() < 0.5 else []
    if digits:
        at = dice.choice(digits)
        content[at] = dice.choice([byte for byte in range(48, 58) if byte != content[at]])
    else:
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content)
    return before


def noted(run_dir: Path, paths: list[Path], outcome: str) -> None:
    """Count what flips have come to."""
    for path in paths:
        TABLE.setdefault(kind_of(path, run_dir), Counter())[outcome] += 1


def table() -> str:
    """Of all flips, as the page has it."""
    outcomes = sorted({outcome for counts in TABLE.values() for outcome in counts})
    lines = [f"| kind of file | {' | '.join(outcomes)} |", f"| --- |{' --- |' * len(outcomes)}"]
    for kind, counts in sorted(TABLE.items()):
        lines.append(f"| `{kind}` | {' | '.join(str(counts[outcome]) for outcome in outcomes)} |")
    total = Counter[str]()
    for counts in TABLE.values():
        total += counts
    return "\n".join([*lines, f"| all, {total.total()} | {' | '.join(str(total[outcome]) for outcome in outcomes)} |"])
