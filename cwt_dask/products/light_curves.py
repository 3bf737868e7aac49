"""Light curves: what `cwt_dask.inspection.measure` finds in several runs, drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cwt_dask.cwt.arrays import numpys_own
from cwt_dask.cwt.drawing import pyplot

if TYPE_CHECKING:
    from astropy.table import Table

# Below this root of TS the upper limit is drawn in place of the value.
LEAST_DRAWN = 2.0
# Panels of a figure: the brightest positions.
MOST_PANELS = 12


@numpys_own
def plot_light_curves(measured: Table, fig: Any = None) -> Any:
    """Draw the flux of each position by run; without an exposure its counts.

    Parameters
    ----------
    measured : astropy.table.Table
        As `cwt_dask.inspection.measure.measure` gives it. Runs stand at their times where all of them have one, else in
        their order.
    fig : matplotlib.figure.Figure or SubFigure, optional
        Where to draw; a new figure where not given.

    Returns
    -------
    matplotlib figure
        A panel a position, of the `cwt_dask.products.light_curves.MOST_PANELS` with the largest √TS. Arrows are upper
        limits (95 %), where √TS is below `cwt_dask.products.light_curves.LEAST_DRAWN`.

    Raises
    ------
    InputError
        If matplotlib is not installed.

    Examples
    --------
    >>> from astropy.table import Table
    >>> from cwt_dask.products.light_curves import plot_light_curves
    >>> rows = {"source_id": [1, 1], "name": ["a", "a"], "run": ["v1", "v2"], "sqrt_ts": [5.0, 0.0]}
    >>> rows |= {"npred": [9.0, 0.0], "npred_errn": [3.0, 0.0], "npred_errp": [3.0, 1.0], "npred_ul": [14.0, 3.0]}
    >>> plot_light_curves(Table(rows)).axes[0].get_title()
    'a'
    """
    pyplot()
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    best: dict[Any, float] = {}
    for number, root_ts in zip(measured["source_id"], measured["sqrt_ts"], strict=True):
        best[number] = max(float(root_ts), best.get(number, 0.0))
    chosen = sorted(sorted(best, key=lambda number: -best[number])[:MOST_PANELS])
    names = list(dict.fromkeys(map(str, measured["run"])))
    of_time = "mjd" in measured.colnames and bool(np.isfinite(np.ma.filled(measured["mjd"], np.nan)).all())
    quantity = "flux" if "flux" in measured.colnames else "npred"
    fig = Figure((6, 1 + 1.8 * len(chosen)), layout="constrained") if fig is None else fig
    panels = fig.subplots(len(chosen), 1, sharex=True, squeeze=False)[:, 0]
    for panel, number in zip(panels, chosen, strict=True):
        rows = measured[measured["source_id"] == number]
        x = np.asarray(rows["mjd"]) if of_time else np.array([names.index(str(run)) for run in rows["run"]])
        value, low, high, limit = (
            np.asarray(rows[f"{quantity}{end}"], np.float64) for end in ("", "_errn", "_errp", "_ul")
        )
        faint = np.asarray(rows["sqrt_ts"]) < LEAST_DRAWN
        drawn = panel.errorbar(x[~faint], value[~faint], [low[~faint], high[~faint]], fmt="o")
        panel.errorbar(
            x[faint], limit[faint], 0.1 * limit[faint], fmt="none", uplims=True, ecolor=drawn[0].get_color(), capsize=3
        )
        top = float(np.where(faint, limit, value + high).max())
        panel.set(title=str(rows["name"][0]), ylim=(0, 1.1 * top if top > 0 else 1))
    unit = measured[quantity].unit
    fig.supylabel(f"{quantity} ({unit})" if unit else quantity)
    panels[-1].set_xlabel("MJD" if of_time else "run")
    if not of_time:
        panels[-1].set_xticks(range(len(names)), names)
        panels[-1].set_xlim(-0.5, len(names) - 0.5)
    return fig
