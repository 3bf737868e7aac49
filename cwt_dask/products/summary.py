"""Plans, runs and certificates in a few lines, for people."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping
from typing import Any

from cwt_dask.config.validation import counted, format_bytes
from cwt_dask.errors import CwtDaskError
from cwt_dask.geometry.facets import AnyGrid, FacetGrid
from cwt_dask.planning.plan import Plan
from cwt_dask.products.source import MapSource
from cwt_dask.storage.progress import Progress, read_progress
from cwt_dask.survey import describe_origin
from cwt_dask.trust import HARMLESS_FLAGS


def describe_plan(plan: Plan) -> str:
    """Describe a plan, a line for each fact."""
    grid = plan.grid
    error = (
        "no bound" if plan.expected_error is None else f"at most {plan.expected_error:.0e} of a tile's model maximum"
    )
    margin = "none, one tile" if grid.margin is None else f"{grid.margin} pixels (contract: {plan.contract_margin})"
    scales = ", ".join(f"{scale:g}" for scale in plan.kernels.scales)
    fit, crowded = map(_duration, plan.fit_seconds)
    compiling = format_bytes(plan.fit_memory)
    paused = format_bytes(plan.worker_memory / PAUSE)
    lines = [
        f"map            {grid.extent}",
        *(f"made of        {describe_origin(origin)}" for origin in plan.origins),
        *([f"pixels used    {plan.used}"] if plan.used else []),
        *([f"photon flux    none: {plan.no_flux}"] if plan.no_flux else []),
        *([f"psf            {plan.psf}"] if plan.psf else []),
        *([f"background     {plan.background}"] if plan.background else []),
        f"tiles          {grid.n_tiles}, {_parts(grid)}",
        f"boxes          {grid.box_shape[0]} x {grid.box_shape[1]} pixels: what a tile computes, its core and margins",
        f"margin         {margin}",
        f"expected error {'0: no tile has a neighbour' if grid.margin is None else error}",
        f"kernels        scales {scales} pixels, reach {plan.kernels.reach}, gain {plan.kernels.gain:.3g}",
        f"memory         {format_bytes(plan.worker_memory)} a worker, {paused} if it pauses at {PAUSE:g} of its limit",
        f"disk           at most {format_bytes(plan.disk)} for survey and maps",
        f"cost           about {_duration(plan.core_seconds)} on one core, if no iteration is saved",
        f"sources        about {fit} on one core, {crowded} with 10^4 in 10^6 pixels; {compiling} a worker, compiling",
        f"tiling         {'promised to do no harm' if plan.exact else 'NOT promised to do no harm'}",
        *(f"warning        {warning}" for warning in plan.warnings),
    ]
    return "\n".join(lines)


def _parts(grid: AnyGrid) -> str:
    """What a tile is."""
    y, x = grid.core_shape
    if isinstance(grid, FacetGrid):
        return f"cells of {grid.nside >> grid.order} x {grid.nside >> grid.order} pixels in images of up to {y} x {x}"
    return f"cores of {y} x {x} pixels"


def _duration(seconds: float) -> str:
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{math.ceil(seconds)} s"


def describe_run(run: MapSource) -> str:
    """Describe what a finished run found, a line for each fact."""
    certificate = run.certificate
    harm = HARMLESS if certificate["tiling_exact"] else HARMFUL
    error = certificate["seam_model_error"]
    stopped = {True: "converged: steps below tol", False: "the most allowed; steps not below tol, as is usual"}
    catalogue = run.catalogue
    n_flagged = ((catalogue["flags"] & ~HARMLESS_FLAGS) > 0).sum()
    flagged = f"{n_flagged} of them with flags that ask for a second look"
    lines = [
        f"sources        {len(catalogue)}, {flagged}: {run.files.catalogue}",
        f"maps           {run.files.maps}",
        *([f"background     {certificate['background']}"] if certificate.get("background") else []),
        f"iterations     {certificate['n_iter']} ({stopped.get(certificate['converged'], 'fixed')})",
        f"tiles          {certificate['n_tiles']}, {harm}"
        + (f" (largest model difference at a seam {error:.1e})" if error is not None else ""),
        f"certificate    {run.files.certificate}",
        *([f"report         {run.files.report}"] if run.files.report.exists() else []),
    ]
    return "\n".join(lines)


# Share of its limit above which Dask gives a worker no task, unless it is told otherwise.
PAUSE = 0.8
# Of a run that is not finished.
RESUME = "the command that began it, given again, resumes it"
HARMLESS, HARMFUL = "the tiles did no harm", "NOT shown to equal the whole map"


def describe_left(run: MapSource, progress: Progress) -> str:
    """Describe what an unfinished run has still to do, first things first."""
    grid, most = run.stored.plan.grid, run.stored.plan.settings.max_iter
    fits, rest = "sources", "catalogue, certificate and report"
    if left := grid.n_tiles - progress.n_done:
        begun = f"from {progress.block[0]} " if progress.block else ""
        return f"{counted(left, 'tile')} ({begun}to at most {most} iterations), then {fits}, {rest}"
    if left := grid.n_tiles - progress.n_fitted:
        return f"{fits} of {left} of {counted(grid.n_tiles, 'tile')}, then {rest}"
    return f"neighbours' {fits} to compare, {rest}"


class Certificate(dict[str, Any]):
    """A certificate: a dict that notebooks show as a table under its result."""

    def _repr_html_(self) -> str:
        reasons = self.get("not_exact_because") or []
        result = HARMLESS if self.get("tiling_exact") else HARMFUL
        result += f": {', '.join(map(str, reasons))}" if reasons else ""
        return f"<p><strong>{html.escape(result)}</strong></p>{_table(self)}"


def run_html(run: MapSource) -> str:
    """Describe a run as HTML, finished or not; a damaged file is named."""
    grid = run.stored.plan.grid
    done = read_progress(run.files, run.stored.run_id).n_done
    rows: dict[str, Any] = {
        "directory": str(run.files.path),
        "map": grid.extent,
        "tiles": f"{done} of {grid.n_tiles} done, {_parts(grid)}",
        "scales": ", ".join(f"{scale:g}" for scale in run.stored.plan.kernels.scales) + " pixels",
    }
    try:
        certificate = run.certificate
        rows["iterations"] = certificate["n_iter"]
        rows["certificate"] = HARMLESS if certificate["tiling_exact"] else HARMFUL
        rows["sources"] = len(run.catalogue)
    except CwtDaskError as error:
        rows["state"] = str(error)
    return f"<p><strong>SurveyRun</strong></p>{_table(rows)}"


def _table(rows: Mapping[str, Any]) -> str:
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in rows.items()}
    cells = (f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in texts.items())
    return f"<table><tbody>{''.join(cells)}</tbody></table>"
