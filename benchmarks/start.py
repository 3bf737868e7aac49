"""Processor time that a command takes before and after its numbers: help, a wrong call, and a run of one tile."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from common import markdown, say, show

from cwt_dask.simulate import simulate

REPETITIONS = 5
SHAPE = (200, 300)
CALLS = {
    "`--help`": ["--help"],
    "`run --help`": ["run", "--help"],
    "a word where a number is needed": ["run", "survey.fits", "run", "--tol=small"],
    "an impossible setting": ["run", "survey.fits", "run", "--step-scale=1"],
    "`run`, one tile": ["run", "survey.fits", "run", "--overwrite"],
    "the same with `--no-report`": ["run", "survey.fits", "run", "--overwrite", "--no-report"],
}


# The command; what its tile takes goes to standard error, last.
COMMAND = """
import functools, sys, time
took = 0.0
if "--overwrite" in sys.argv:
    from cwt_dask.tiles import task
    run_tile = task.run_tile
    @functools.wraps(run_tile)
    def timed(*arguments):
        global took
        start = time.process_time()
        done = run_tile(*arguments)
        took += time.process_time() - start
        return done
    task.run_tile = timed
from cwt_dask.cli.main import main
status = main()
sys.stderr.write(f"\\n{took}\\n")
sys.exit(status)
"""


def processor_time(words: list[str], folder: Path) -> tuple[float, float]:
    """Seconds of a call in user and system mode, and those without its tile."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", COMMAND, *words], cwd=folder, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return total, total - float(done.stderr.splitlines()[-1])


def tables(quick: bool, scratch: Path) -> str:
    """A row a call."""
    rows = []
    with TemporaryDirectory(dir=scratch) as name:
        folder = Path(name)
        simulate(folder / "survey.fits", (40, 50) if quick else SHAPE, seed=1)
        for what, words in CALLS.items():
            say(what)
            # The first one compiles modules and loops; others on the machine can only add to the least.
            took = [processor_time(words, folder) for _ in range(1 if quick else 1 + REPETITIONS)]
            total, beside = map(min, zip(*took[-REPETITIONS:], strict=True))
            rows.append((what, f"{total:.2f}", f"{beside:.2f}"))
    return markdown(["call", "processor time, s", "without the tile, s"], rows)


if __name__ == "__main__":
    show(tables, __doc__)
