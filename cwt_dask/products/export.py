"""A run for other tools: which parts of the sky it has (MOC), and images that viewers of the sky open (HiPS)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path

from cwt_dask.config.validation import shown
from cwt_dask.cwt.arrays import numpys_own
from cwt_dask.errors import InputError
from cwt_dask.products.hips import write_hips
from cwt_dask.products.moc import write_mocs
from cwt_dask.products.source import MapSource
from cwt_dask.storage.directory import new_directory
from cwt_dask.storage.paths import as_path, lies_in, on_disk

# What writes each format to a new directory.
FORMATS: Mapping[str, Callable[[MapSource, Path], None]] = {"moc": write_mocs, "hips": write_hips}


@numpys_own
def export(run: MapSource, out: str | PathLike[str], format: str) -> Path:  # noqa: A002 - the name of the option
    """Write a finished run in a format of other tools.

    Parameters
    ----------
    run : SurveyRun
        On a flat map or on the sphere.
    out : path-like
        Directory to make; it appears when it is whole.
    format : str
        ``moc``: the multi-order coverage maps ``survey.fits``, of the pixels that take part, and ``support.fits``, of
        those that were significant at any scale, in ICRS (IVOA's standard, version 2). ``hips``: the hierarchical
        progressive surveys ``counts``, ``sigma`` and ``model``, a directory each, of FITS tiles in the map's frame.

    Returns
    -------
    pathlib.Path
        The directory.

    Raises
    ------
    InputError
        If there is no such format, the directory exists or cannot be made, the run is not finished, or the packages
        for it are not installed.

    Examples
    --------
    >>> import tempfile
    >>> from cwt_dask import run_survey
    >>> from cwt_dask.products.export import export
    >>> from cwt_dask.simulate import simulate
    >>> folder = tempfile.mkdtemp()
    >>> sources = simulate(f"{folder}/survey.fits", (60, 80), seed=1)
    >>> run = run_survey(f"{folder}/survey.fits", f"{folder}/run", max_iter=2, workers=0, no_report=True)
    >>> sorted(path.name for path in export(run, f"{folder}/moc", "moc").iterdir())
    ['support.fits', 'survey.fits']
    """
    if format not in FORMATS:
        raise InputError(f"format is {shown(format)}: give one of {', '.join(FORMATS)}")
    path = as_path(out)
    if on_disk(path) is None:
        raise InputError(f"{path} is an object store: give a directory on a disk, and copy it")
    # What is not finished has no certificate.
    _ = run.certificate
    if path.exists():
        raise InputError(f"{path} exists: remove it or choose another name")
    if lies_in(path, run.files.path):
        raise InputError(f"{path} lies in the run's own directory, which has nothing else in it: choose another place")
    try:
        with new_directory(path) as fresh:
            FORMATS[format](run, fresh)
    except ImportError as error:
        raise InputError(f"format {format} needs {error.name}: pip install 'cwt_dask[export]'") from error
    except OSError as error:
        raise InputError(f"{path} is not written: {error}") from error
    return path
