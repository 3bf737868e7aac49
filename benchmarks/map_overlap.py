"""The ten lines with `dask.array.map_overlap` that a user would write, against a run; two workers, one map.

Its graph holds every block, its margins travel between workers, and it gives the model alone: no other map, catalogue,
record or certificate, and no stopping rule.
"""

from __future__ import annotations

from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle
import dask.array
import distributed
from common import KERNELS, MIB, ONE_THREAD, THRESHOLD, apart, markdown, say, seconds, show, survey
from plain import analyse
from runs import N_ITER, planned, run

from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.provenance import peak_memory
from cwt_dask.survey import Survey
from cwt_dask.tiles.task import run_tile

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from cwt_dask.cwt.kernels import CWTKernels

SIZE = 4096
BLOCK = 2048
MEMORY_LIMIT = 6 * 2**30


def detect(
    counts: dask.array.Array,
    background: dask.array.Array,
    kernels: CWTKernels,
    threshold: float,
    n_iter: int,
    depth: int,
) -> dask.array.Array:
    """Model (y, x) of a map after `n_iter` iterations, block by block, with margins of `depth` pixels."""
    base = [kernels.kern_base[scale] for scale in range(kernels.n_scale)]

    def model_of(counts: np.ndarray, background: np.ndarray) -> np.ndarray:
        return analyse(counts, background, base, kernels.kern_approx, threshold, n_iter).model

    planes = counts.astype(float), background.astype(float)
    return dask.array.map_overlap(model_of, *planes, depth=depth, boundary="none", dtype=float)


class Figures(NamedTuple):
    """Seconds without starting workers; bytes of the largest worker and of the driver; tasks; bytes of the graph."""

    seconds: float
    worker: int
    driver: int
    tasks: int
    graph: int


def overlapped(store: Path, scratch: Path, margin: int, block: int) -> Figures:
    """Do it in this process, as its user would."""
    maps = Survey.open(store)
    counts, background = (plane.rechunk(block) for plane in (maps.counts, maps.background))
    model = detect(counts, background, KERNELS, THRESHOLD, N_ITER, margin)
    with (
        TemporaryDirectory(dir=scratch) as directory,
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=MEMORY_LIMIT, dashboard_address=None, env=ONE_THREAD
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        graph = dict(dask.optimize(model)[0].__dask_graph__())
        took = seconds(partial(model.to_zarr, f"{directory}/model.zarr"))
        worker = max(client.run(peak_memory).values())
    return Figures(took, worker, peak_memory(), len(graph), len(cloudpickle.dumps(graph)))


def tables(quick: bool, scratch: Path, size: int) -> str:
    """Both, a row each."""
    size, block = (512, 256) if quick else (size, BLOCK)
    store = survey(scratch, size)
    options: dict[str, Any] = {"stopping": "fixed"} | ({"tile_size": block} if quick else {})
    plan = planned(store, **options)
    say(f"map_overlap on {size} x {size} pixels")
    # A margin that is promised to do, as the run's own is.
    theirs = apart(overlapped, store, scratch, plan.contract_margin, block)
    say(f"a run on {size} x {size} pixels")
    ours = run(store, scratch, workers=2, **options)
    task = len(cloudpickle.dumps(partial(run_tile, plan.job(RunDir(scratch), "", store))))
    head = (
        f"{size} x {size}, {N_ITER} iterations, margin {plan.contract_margin}",
        "seconds",
        "ns a pixel and iteration",
        "worker's peak, MiB",
        "driver's peak, MiB",
        "tasks",
        "graph, kB",
    )

    def row(name: str, took: float, worker: int, driver: int, *rest: Any) -> tuple[Any, ...]:
        cost = took / size**2 / N_ITER * 1e9
        return name, f"{took:.1f}", f"{cost:.1f}", f"{worker / MIB:.0f}", f"{driver / MIB:.0f}", *rest

    overlap = row(
        "map_overlap", theirs.seconds, theirs.worker, theirs.driver, theirs.tasks, f"{theirs.graph / 1e3:.0f}"
    )
    whole = row("run_survey", ours.run, ours.worker, ours.driver, ours.tasks, f"none; {task / 1e3:.1f} a task")
    return markdown(head, (overlap, whole))


if __name__ == "__main__":
    show(tables, __doc__, size=SIZE)
