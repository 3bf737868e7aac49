"""What the fit of a tile leaves in a file: what it says of its candidates, and the sources in its window."""

from __future__ import annotations

from dataclasses import dataclass, fields

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.storage.archives import open_archive, write_archive
from cwt_dask.storage.layout import RunDir
from cwt_dask.tiles.sources import Peaks


@dataclass(frozen=True)
class Fitted:
    """What the fit says of the candidates of one core, as columns: those that were found before it, then new ones."""

    accepted: Bools  # Whether they are sources of the joint model; the others are measured one by one on top of it.
    ts: Floats  # With all others in the model.
    ts_ext: Floats  # Of the extension over a point.
    extension: Floats  # Sigma beyond the point spread function, in pixels.
    # Counts of the whole source, both ends of its 68 % interval, and 95 % upper limit.
    npred: Floats
    npred_low: Floats
    npred_high: Floats
    npred_ul: Floats
    # Pixels of the map; NaN where nothing was fitted.
    y_fit: Floats
    x_fit: Floats
    # Their standard deviations in pixels; NaN where they are not known.
    y_fit_error: Floats
    x_fit_error: Floats
    sigma_beside: Floats  # S with all other sources in the background, where that has found it; else 0.


@dataclass(frozen=True)
class Seen:
    """Sources of the joint model in a tile's window, as columns."""

    # Pixels of the map by which they are known: those of their candidates.
    y: Ints
    x: Ints
    half: Ints  # Pixels to each side that they reach.
    npred: Floats
    ts: Floats
    # Positions from these pixels.
    y_off: Floats
    x_off: Floats


def write_fitted(run_dir: RunDir, run_id: str, tile_id: int, new: Peaks, fitted: Fitted, seen: Seen) -> None:
    """Keep what was found.

    Parameters
    ----------
    run_dir, run_id, tile_id
        Of which tile.
    new : Peaks
        Candidates of the core that the fit alone has found.
    fitted : Fitted
        What it says of the core's candidates, these last.
    seen : Seen
        Sources of the window.
    """
    arrays = {f"new_{name}": values for name, values in vars(new).items()} | vars(fitted)
    arrays |= {f"seen_{name}": values for name, values in vars(seen).items()}
    write_archive(run_dir.fitted(tile_id), run_id, arrays)


def read_fitted(run_dir: RunDir, run_id: str, tile_id: int) -> tuple[Peaks, Fitted]:
    """What was found in a core: candidates that the fit alone has found, and all that is fitted.

    Parameters
    ----------
    run_dir, run_id, tile_id
        As of `write_fitted`.
    """
    with open_archive(run_dir.fitted(tile_id), run_id) as arrays:
        new = Peaks(**{field.name: arrays[f"new_{field.name}"] for field in fields(Peaks)})
        return new, Fitted(**{field.name: arrays[field.name] for field in fields(Fitted)})


def read_seen(run_dir: RunDir, run_id: str, tile_id: int) -> Seen:
    """Sources that a tile has in its window.

    Parameters
    ----------
    run_dir, run_id, tile_id
        As of `write_fitted`.
    """
    with open_archive(run_dir.fitted(tile_id), run_id) as arrays:
        return Seen(**{field.name: arrays[f"seen_{field.name}"] for field in fields(Seen)})
