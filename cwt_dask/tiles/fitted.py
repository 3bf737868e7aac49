"""What the fit of a tile leaves in a file: what it says of its candidates, and the sources in its window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.storage.archives import is_whole, read_sealed_archive, write_sealed_archive
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.paths import exists
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


@dataclass(frozen=True)
class FittedTile:
    """What the fit of a tile has found."""

    new: Peaks  # Candidates of the core that the fit alone has found.
    fitted: Fitted  # What it says of the core's candidates, these last.
    seen: Seen  # Sources of the window.
    levels: Ints  # Pixels of the core by background, as of `count_levels`.


@dataclass(frozen=True)
class MadeOf:
    """What a fit was made of, as digests: of the same comes the same."""

    candidates: str  # Of all in the window.
    settings: str  # And of versions and the map's WCS.
    pixels: str  # Of the window.


def write_fitted(run_dir: RunDir, run_id: str, tile_id: int, margin: int, found: FittedTile, of: MadeOf) -> None:
    """Keep what was found.

    Parameters
    ----------
    run_dir, run_id, tile_id, margin
        Of which tile, with how wide a window.
    found : FittedTile
        What was found.
    of : MadeOf
        What it was made of.
    """
    arrays = {f"new_{name}": values for name, values in vars(found.new).items()} | vars(found.fitted)
    arrays |= {f"seen_{name}": values for name, values in vars(found.seen).items()}
    arrays["levels"] = found.levels
    arrays["of"] = np.array([of.candidates, of.settings, of.pixels])
    write_sealed_archive(run_dir.fitted(tile_id, margin), run_id, arrays)


def made_of(run_dir: RunDir, run_id: str, tile_id: int, margin: int) -> MadeOf | None:
    """What a tile's fit was made of; None where there is none that is whole.

    Parameters
    ----------
    run_dir, run_id, tile_id, margin
        As of `write_fitted`.
    """
    path = run_dir.fitted(tile_id, margin)
    return MadeOf(*map(str, read_sealed_archive(path, run_id)["of"])) if is_whole(path, run_id) else None


def damaged(run_dir: RunDir, run_id: str, margins: Sequence[int], tile_id: int) -> list[Path]:
    """Which files with candidates and fits of a tile are not as they were written; of wider windows there may be none.

    Parameters
    ----------
    run_dir, run_id, tile_id
        As of `write_fitted`.
    margins : sequence of int
        How far windows may reach beyond the core, the least first.
    """
    wider = [path for path in (run_dir.fitted(tile_id, margin) for margin in margins[1:]) if exists(path)]
    paths = run_dir.found(tile_id), run_dir.fitted(tile_id, margins[0]), *wider
    return [path for path in paths if not is_whole(path, run_id)]


def read_whole(run_dir: RunDir, run_id: str, tile_id: int, margin: int) -> FittedTile:
    """What was found in a tile.

    Parameters
    ----------
    run_dir, run_id, tile_id, margin
        As of `write_fitted`.
    """
    new, fitted, levels = read_fitted(run_dir, run_id, tile_id, margin)
    return FittedTile(new, fitted, read_seen(run_dir, run_id, tile_id, margin), levels)


def read_fitted(run_dir: RunDir, run_id: str, tile_id: int, margin: int) -> tuple[Peaks, Fitted, Ints]:
    """What was found in a core: candidates that the fit alone has found, all that is fitted, pixels by background.

    Parameters
    ----------
    run_dir, run_id, tile_id, margin
        As of `write_fitted`.
    """
    arrays = read_sealed_archive(run_dir.fitted(tile_id, margin), run_id)
    new = Peaks(**{field.name: arrays[f"new_{field.name}"] for field in fields(Peaks)})
    return new, Fitted(**{field.name: arrays[field.name] for field in fields(Fitted)}), arrays["levels"]


def read_seen(run_dir: RunDir, run_id: str, tile_id: int, margin: int) -> Seen:
    """Sources that a tile has in its window.

    Parameters
    ----------
    run_dir, run_id, tile_id, margin
        As of `write_fitted`.
    """
    arrays = read_sealed_archive(run_dir.fitted(tile_id, margin), run_id)
    return Seen(**{field.name: arrays[f"seen_{field.name}"] for field in fields(Seen)})
