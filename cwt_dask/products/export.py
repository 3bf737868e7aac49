"""A run for other tools: models of its sources, regions, coverage (MOC), and images for viewers of the sky (HiPS)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from cwt_dask.config.validation import shown
from cwt_dask.cwt.arrays import numpys_own
from cwt_dask.errors import InputError
from cwt_dask.products.hips import write_hips
from cwt_dask.products.moc import write_mocs
from cwt_dask.products.models import PowerLaw, fermi_xml, gammapy
from cwt_dask.products.regions import crtf, ds9
from cwt_dask.products.source import MapSource
from cwt_dask.storage.directory import new_directory
from cwt_dask.storage.paths import as_path, atomic_file, on_disk, refuse_inside

# What gives the lines of a file of models, what gives those of regions, and what writes to a new directory.
MODELS: Mapping[str, Callable[[MapSource, PowerLaw], Iterator[str]]] = {"gammapy": gammapy, "fermipy-xml": fermi_xml}
REGIONS: Mapping[str, Callable[[Any], Iterator[str]]] = {"ds9": ds9, "crtf": crtf}
IMAGES: Mapping[str, Callable[[MapSource, Path], None]] = {"moc": write_mocs, "hips": write_hips}
FORMATS = *MODELS, *REGIONS, *IMAGES


@numpys_own
def export(
    run: MapSource,
    out: str | PathLike[str],
    format: str,  # noqa: A002 - the name of the option
    **spectrum: Any,
) -> Path:
    """Write a finished run in a format of other tools.

    Parameters
    ----------
    run : SurveyRun
        On a flat map or on the sphere.
    out : path-like
        File to make, or of ``moc`` and ``hips`` a directory; it appears when it is whole.
    format : str
        ``gammapy``: the catalogue as models in YAML, for Gammapy's ``Models.read``. ``fermipy-xml``: the same in the
        XML of Fermi's tools and ctools. ``ds9`` and ``crtf``: regions, points for sources without extension, else
        circles of that radius. ``moc``: the multi-order coverage maps ``survey.fits``, of the pixels that take part,
        and ``support.fits``, of those that were significant at any scale, in ICRS (IVOA's standard, version 2).
        ``hips``: the hierarchical progressive surveys ``counts``, ``sigma`` and ``model``, a directory each, of FITS
        tiles in the map's frame.
    **spectrum
        Of models: `emin` and `emax`, energies of the counts such as ``"10GeV"``, where the survey does not say them;
        and `index`, the photon index, by default that with which the exposure is weighted, 2 where it is not.

    Returns
    -------
    pathlib.Path
        The file or directory.

    Raises
    ------
    InputError
        If there is no such format, `out` exists or cannot be made, the run is not finished, models are asked for and
        fluxes or energies are not known, or the packages for it are not installed.

    Examples
    --------
    >>> import tempfile
    >>> from cwt_dask import run_survey
    >>> from cwt_dask.products.export import export
    >>> from cwt_dask.simulate import simulate
    >>> folder = tempfile.mkdtemp()
    >>> sources = simulate(f"{folder}/survey.fits", (60, 80), seed=1)
    >>> run = run_survey(f"{folder}/survey.fits", f"{folder}/run", max_iter=2, workers=0, no_report=True)
    >>> models = export(run, f"{folder}/models.yaml", "gammapy", emin="10GeV", emax="2TeV")
    >>> sorted(path.name for path in export(run, f"{folder}/moc", "moc").iterdir())
    ['support.fits', 'survey.fits']
    """
    if format not in FORMATS:
        raise InputError(f"format is {shown(format)}: give one of {', '.join(FORMATS)}")
    if spectrum and format not in MODELS:
        raise InputError(f"{next(iter(spectrum))} is given, and format {format} has no spectra: leave it out")
    path = as_path(out)
    if on_disk(path) is None:
        raise InputError(f"{path} is an object store: give a place on a disk, and copy it")
    # What is not finished has no certificate.
    _ = run.certificate
    if path.exists():
        raise InputError(f"{path} exists: remove it or choose another name")
    refuse_inside(path, [run.files.path])
    if format in IMAGES:
        return _write_images(run, path, format)
    lines = MODELS[format](run, PowerLaw.of(run, **spectrum)) if format in MODELS else REGIONS[format](run.catalogue)
    try:
        with atomic_file(path) as file:
            file.writelines(line.encode() for line in lines)
    except OSError as error:
        raise InputError(f"{path} is not written: {error}") from error
    return path


def _write_images(run: MapSource, path: Path, name: str) -> Path:
    try:
        with new_directory(path) as fresh:
            IMAGES[name](run, fresh)
    except ImportError as error:
        raise InputError(f"format {name} needs {error.name}: pip install 'cwt_dask[export]'") from error
    except OSError as error:
        raise InputError(f"{path} is not written: {error}") from error
    return path
