"""The point spread function in a run directory: a sealed file, so that nothing later needs the one it came from."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cwt_dask.errors import RunError
from cwt_dask.psf.point_spread import PointSpread
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.paths import read_file, write_atomically
from cwt_dask.storage.sealed import is_sound, sealed, unsealed

if TYPE_CHECKING:
    from astropy.wcs import WCS


def keep_point_spread(run_dir: RunDir, spread: PointSpread) -> None:
    """Write what a run has; a width is in `run.toml` and needs no file."""
    if not isinstance(spread.setting, float):
        write_atomically(run_dir.psf, json.dumps(sealed(spread.content)).encode())


def kept_point_spread(run_dir: RunDir, setting: Any, wcs: WCS | None) -> PointSpread | None:
    """Read what a run has.

    Parameters
    ----------
    run_dir : RunDir
        The run.
    setting : float, str or None
        What its settings, as resolved, say of it.
    wcs : astropy.wcs.WCS
        Of its map.

    Returns
    -------
    PointSpread or None
        None where the run has none.

    Raises
    ------
    RunError
        If the file is damaged.
    """
    if setting is None:
        return None
    if isinstance(setting, float):
        return PointSpread.gaussian(setting)
    with suppress(OSError, ValueError, TypeError, KeyError):
        content = json.loads(read_file(run_dir.psf))
        if is_sound(content):
            spread = PointSpread.from_content(unsealed(content), wcs)
            if spread.setting == setting:
                return spread
    raise RunError(f"{run_dir.psf} is damaged or lost: give the run's own command again, which writes it anew")
