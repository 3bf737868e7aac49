"""Candidates and fit of a large survey: time, memory, the driver's share; and a crowded plane in one worker."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from astropy.io import fits
from common import MIB, apart, markdown, say, show

from cwt_dask import run_survey
from cwt_dask.runtime.progress import Reporter
from cwt_dask.simulate import simulate
from cwt_dask.survey import SurveySource, ingest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cwt_dask import SurveyRun

T = TypeVar("T")

SIZE, SOURCES = 16384, 50_000
# That of sources of `cwt-dask simulate`, in pixels; three scales follow.
OPTIONS: dict[str, Any] = {"psf": 1.5, "n_scale": 3, "max_iter": 3, "tol": 0.0, "fits": "no", "no_report": True}
# A crowded plane: so many sources in a square of so many pixels, of 50 to 2000 counts on 0.3 a pixel.
CROWDED, SIDE = 40_000, 2000


@dataclass
class Watch(Reporter):
    """Seconds of each stage, of them the driver's own processor time, and the largest worker."""

    seconds: dict[str, float] = field(default_factory=dict)
    own: dict[str, float] = field(default_factory=dict)
    memory: int = 0

    def track(self, items: Iterable[T], stage: str, total: int) -> Iterator[T]:  # noqa: ARG002 - the reporter's
        """Time a stage."""
        start, own = time.perf_counter(), time.process_time()
        yield from items
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
        self.own[stage] = self.own.get(stage, 0.0) + time.process_time() - own
        say(f"{stage}: {self.seconds[stage]:.0f} s")

    def event(self, what: str, **facts: Any) -> None:
        """Note the memory of a task's process."""
        super().event(what, **facts)
        self.memory = max(self.memory, facts.get("memory", 0))


def whole(store: Path, run_dir: Path) -> tuple[float, int]:
    """Make a run; its seconds, and rows."""
    start = time.perf_counter()
    run = run_survey(store, run_dir, workers=2, **OPTIONS)
    return time.perf_counter() - start, _rows(run)


def _rows(run: SurveyRun) -> int:
    return len(run.catalogue) + len(run.candidates)


def again(store: Path, run_dir: Path) -> tuple[Watch, float, float, int]:
    """Have a run find and fit its sources again, in new workers: seconds, the driver's own, and its largest size."""
    files = [run_dir / "certificate.json", *run_dir.glob("islands/*.npz")]
    for file in files:
        file.unlink(missing_ok=True)
    watch, start, own = Watch(), time.perf_counter(), time.process_time()
    run_survey(store, run_dir, workers=2, progress=watch, **OPTIONS)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10
    return watch, time.perf_counter() - start, time.process_time() - own, peak


def crowded(scratch: Path, n_sources: int, side: int) -> tuple[int, Watch, int]:
    """Run a crowded plane in one worker: rows, what was seen, and the memory that was planned."""
    dice = np.random.default_rng(3)
    expected = np.full((side, side), 0.3)
    grid = np.arange(-8, 9)
    for y, x, counts in zip(*dice.uniform(10, side - 10, (2, n_sources)), dice.pareto(1.0, n_sources), strict=True):
        at_y, at_x = round(y), round(x)
        share = np.exp(-((grid[:, None] + at_y - y) ** 2 + (grid + at_x - x) ** 2) / (2 * 1.5**2))
        part = expected[at_y - 8 : at_y + 9, at_x - 8 : at_x + 9]
        part += (min(50 * (1 + counts), 2000) * share / share.sum())[: part.shape[0], : part.shape[1]]
    images = fits.HDUList([fits.PrimaryHDU()])
    header = fits.Header({"CTYPE1": "GLON-CAR", "CTYPE2": "GLAT-CAR", "CDELT1": -0.02, "CDELT2": 0.02})
    for name, pixels in (("COUNTS", dice.poisson(expected)), ("BACKGROUND", np.full((side, side), 0.3))):
        images.append(fits.ImageHDU(pixels.astype(np.float32), header, name))
    images.writeto(scratch / "crowded.fits", overwrite=True)
    run_survey(scratch / "crowded.fits", scratch / "crowded", workers=1, tile_size=side // 2, **OPTIONS)
    for file in [scratch / "crowded" / "certificate.json", *(scratch / "crowded" / "islands").glob("*.npz")]:
        file.unlink(missing_ok=True)
    watch = Watch()
    run = run_survey(
        scratch / "crowded.fits", scratch / "crowded", workers=1, tile_size=side // 2, progress=watch, **OPTIONS
    )
    return _rows(run), watch, run.stored.plan.worker_memory


def tables(quick: bool, scratch: Path) -> str:
    """What each stage took, and the crowded plane."""
    size, sources = (300, 100) if quick else (SIZE, SOURCES)
    with TemporaryDirectory(dir=scratch) as name:
        folder = scratch / name
        say(f"simulating {size} x {size} pixels")
        simulate(folder / "survey.fits", (size, size), seed=5, n_sources=sources)
        store = ingest(SurveySource.of(folder / "survey.fits"), folder / "survey.zarr").path
        (folder / "survey.fits").unlink()
        seconds, n_rows = apart(whole, store, folder / "run")
        watch, alone, own, peak = apart(again, store, folder / "run")
        stages = [(stage, f"{took:.1f}", f"{watch.own[stage]:.1f}") for stage, took in watch.seconds.items()]
        rest = alone - sum(watch.seconds.values()), own - sum(watch.own.values())
        stages.append(("workers' start, catalogue, certificate", *(f"{value:.1f}" for value in rest)))
        head = (
            f"{size} x {size} pixels, {sources} sources and {n_rows} rows, three iterations of three scales, two "
            f"workers: {seconds:.0f} s for all of it. Candidates and fits alone, in new workers: the largest takes "
            f"{watch.memory / MIB:.0f} MiB, the driver {peak / MIB:.0f} MiB.\n\n"
        )
        first = head + markdown(["stage", "seconds", "of them processor time of the driver"], stages)
        found, crowd, planned = apart(crowded, folder, 400 if quick else CROWDED, 200 if quick else SIDE)
        fit = sum(took for stage, took in crowd.seconds.items() if stage.startswith("sources"))
        side = 200 if quick else SIDE
        row = (f"{side} x {side}", found, f"{fit:.0f}", f"{crowd.memory / MIB:.0f}", f"{planned / MIB:.0f}")
        names = ["crowded plane", "rows", "seconds of the fit, one worker", "worker's peak, MiB", "as planned, MiB"]
        return f"{first}\n{markdown(names, [row])}"


if __name__ == "__main__":
    show(tables, __doc__)
