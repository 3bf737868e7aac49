"""What the benchmarks share: one thread, processes of their own, medians, skies and tables."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import scipy
from astropy.io import fits

from cwt_dask.cwt.kernels import CWTKernels
from cwt_dask.runtime.clusters.environment import WORKER_ENVIRONMENT, cores
from cwt_dask.simulate import simulate
from cwt_dask.survey import SurveySource, ingest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

ONE_THREAD = WORKER_ENVIRONMENT | {"NUMEXPR_NUM_THREADS": "1"}
KERNELS = CWTKernels(2, 6.0, 1.3)
THRESHOLD = 3.0
MIB = 2**20


def show(tables: Callable[..., str], description: str | None, **numbers: int) -> None:
    """Print the tables of a benchmark, made by one compute thread; `numbers` are options of its own, with defaults."""
    options = parser(description)
    for name, default in numbers.items():
        options.add_argument(f"--{name}", type=int, default=default, help="(default: %(default)s)")
    arguments = options.parse_args()
    if ONE_THREAD.items() - os.environ.items():
        # Libraries count their threads when they are imported: start again.
        command = [sys.executable, *sys.argv]
        sys.exit(subprocess.run(command, env=os.environ | ONE_THREAD, check=False).returncode)
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    print(tables(arguments.quick, arguments.scratch, **{name: getattr(arguments, name) for name in numbers}))


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options that all benchmarks have."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="tiny sizes, to try it out: the figures mean nothing")
    options.add_argument(
        "--scratch",
        type=Path,
        default=Path(tempfile.gettempdir()) / "cwt-dask-benchmarks",
        help="where simulated surveys are kept for the next time and runs are made and removed (default: %(default)s)",
    )
    return options


def say(text: str) -> None:
    """Tell how far it is; standard output is for tables."""
    print(text, file=sys.stderr, flush=True)


def apart(function: Callable[..., Any], *args: Any) -> Any:
    """Result of a function in a process of its own, whose peak memory is its own, too."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def seconds(function: Callable[[], Any]) -> float:
    """Wall time of a call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def interleaved(functions: Mapping[str, Callable[[], Any]], repetitions: int) -> dict[str, float]:
    """Median wall time of each function, called in turn, after one call that is not counted.

    Other work on the machine affects all of them alike.
    """
    for function in functions.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repetitions):
        for name, function in functions.items():
            times[name].append(seconds(function))
    return {name: median(values) for name, values in times.items()}


def sky(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts and background (y, x), float64, of a simulated square map."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "survey.fits"
        simulate(path, (size, size), seed=1)
        with fits.open(path) as hdus:
            return hdus["COUNTS"].data.astype(np.float64), hdus["BACKGROUND"].data.astype(np.float64)


def survey(scratch: Path, size: int) -> Path:
    """Store of a simulated square map, made where there is none."""
    store = scratch / f"survey-{size}.zarr"
    if not store.exists():
        say(f"simulating a map of {size} x {size} pixels")
        path = scratch / f"survey-{size}.fits"
        simulate(path, (size, size), seed=1, overwrite=True)
        ingest(SurveySource.of(path), store)
        path.unlink()
    return store


def markdown(head: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    """Table in Markdown."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def machine() -> str:
    """What the figures were measured with, in words."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{names[0] if names else platform.machine()}, {cores()} cores, {memory:.0f} GiB; "
        f"Python {platform.python_version()}, NumPy {np.__version__}, SciPy {scipy.__version__}"
    )
