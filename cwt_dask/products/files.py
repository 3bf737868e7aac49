"""Files for other tools: the catalogue as tables and regions, and small maps as FITS images."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.table import Column
from numpy.typing import NDArray

from cwt_dask.cwt.buffers import forget
from cwt_dask.cwt.spectra import fast_length, kernel_spectra
from cwt_dask.cwt.workspace import smooth
from cwt_dask.errors import DamageError
from cwt_dask.geometry.tiling import TileGrid
from cwt_dask.planning.plan import Plan
from cwt_dask.products.regions import discs
from cwt_dask.products.tables import write_ecsv, write_fits, write_votable
from cwt_dask.storage.archives import read_sealed_archive
from cwt_dask.storage.checksum import sha256_of_file
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.paths import atomic_file, drafted_file, listed, open_file
from cwt_dask.storage.schema import maps_in, spec_of
from cwt_dask.storage.zarr_io import open_group
from cwt_dask.survey import Survey

if TYPE_CHECKING:
    from astropy.table import Table

# Some fifteen images of up to 8 bytes a pixel: about 600 MB at this size.
SMALL_MAP_PIXELS = 2**23
# What `assess` keeps of a run: its sources, and each field.
_SIMULATED = re.compile(r"(sources|(null|injected)-\d+-\d+)\.npz")


def write_candidates(run_dir: RunDir, candidates: Table) -> None:
    """Write what is not in the catalogue as ECSV."""
    with atomic_file(run_dir.candidates) as file:
        write_ecsv(candidates, file)


def write_catalogue(run_dir: RunDir, catalogue: Table) -> None:
    """Write the catalogue as ECSV, FITS table, VOTable, and regions for DS9."""
    with atomic_file(run_dir.catalogue) as file:
        write_ecsv(catalogue, file)
    with atomic_file(run_dir.catalogue_fits) as file:
        write_fits(_in_ascii(catalogue), file)
    with atomic_file(run_dir.catalogue_votable) as file:
        write_votable(_votable, catalogue, file)
    with atomic_file(run_dir.catalogue_regions) as file:
        file.writelines(line.encode() for line in discs(catalogue))


def _in_ascii(catalogue: Table) -> Table:
    """Write letters that FITS cannot hold, of other catalogues' names and files, as escapes."""
    table = catalogue.copy(copy_data=False)
    for name in table.colnames:
        if table[name].dtype.kind == "U":
            column = np.char.encode(table[name], "ascii", "backslashreplace").astype(str)
            # Not by assignment: how that is done, and whether it warns, is a setting of astropy.
            table.replace_column(name, Column(column, description=catalogue[name].description))
    for key, value in table.meta.items():
        table.meta[key] = value.encode("ascii", "backslashreplace").decode() if isinstance(value, str) else value
    return table


def _votable(catalogue: Table) -> Any:
    """Add the provenance and the coordinate systems, which astropy leaves out."""
    # Imported late: it is slow, and workers do not need it.
    from astropy.io.votable import from_table  # noqa: PLC0415
    from astropy.io.votable.tree import CooSys, Info  # noqa: PLC0415

    document = from_table(catalogue)
    for system, columns in (("ICRS", ("ra", "dec")), ("galactic", ("glon", "glat"))):
        document.resources[0].coordinate_systems.append(CooSys(ID=system, system=system))
        for column in columns:
            document.get_field_by_id_or_name(column).ref = system
    document.resources[0].infos.extend(Info(name=name, value=str(value)) for name, value in catalogue.meta.items())
    return document


def keep_catalogue(run_dir: RunDir, certificate: Mapping[str, Any]) -> None:
    """Keep the ECSV file that is to be replaced, until the certificate covers the new one; if it covers that, still."""
    if digest_catalogue(run_dir) != certificate["digest_catalogue"]:
        return
    with open_file(run_dir.catalogue) as before, atomic_file(run_dir.catalogue_before) as file:
        shutil.copyfileobj(before, file)


def write_associations(run_dir: RunDir, associations: Table) -> None:
    """Write the associations of sources as ECSV."""
    with atomic_file(run_dir.associations) as file:
        write_ecsv(associations, file)


def write_table(path: Path, table: Table) -> None:
    """Write what was measured beside a catalogue, or says what it is worth, as ECSV."""
    with atomic_file(path) as file:
        write_ecsv(table, file)


def digest_catalogue(run_dir: RunDir) -> str:
    """sha256 of the catalogue's ECSV file."""
    return sha256_of_file(run_dir.catalogue)


def _other_files(run_dir: RunDir) -> tuple[Path, ...]:
    catalogues = run_dir.catalogue_fits, run_dir.catalogue_votable, run_dir.catalogue_regions
    of_catalogue = run_dir.candidates, run_dir.associations, *_added(run_dir)
    return *catalogues, *of_catalogue, run_dir.maps_fits, run_dir.maps_hpx


def _added(run_dir: RunDir) -> tuple[Path, ...]:
    """Files that are made after the run."""
    return run_dir.measured, run_dir.assessment


def digest_products(run_dir: RunDir) -> dict[str, str]:
    """sha256 of the other files that exist, by name."""
    return {file.name: sha256_of_file(file) for file in _other_files(run_dir) if file.exists()}


def changed_products(run_dir: RunDir, certificate: Mapping[str, Any]) -> list[Path]:
    """Catalogues and FITS files that differ from the digests of a certificate: damaged, lost or unknown to it.

    Those that are added to a finished run are none of it until it knows them: their writer may have been killed.
    """
    known = certificate.get("digest_products")
    known = (known if isinstance(known, dict) else {}) | {run_dir.catalogue.name: certificate.get("digest_catalogue")}
    left = {file for file in _added(run_dir) if file.name not in known}
    found: dict[Path, str | None] = dict.fromkeys(
        file for file in (run_dir.catalogue, *_other_files(run_dir)) if file not in left
    )
    for file in found:
        with suppress(OSError):
            found[file] = sha256_of_file(file)
    return [file for file, digest in found.items() if digest != known.get(file.name)]


def faults_of_products(run_dir: RunDir, certificate: Mapping[str, Any], run_id: str) -> list[str]:
    """What is wrong with catalogues, FITS files and what simulations have shown, in words.

    Parameters
    ----------
    run_dir, certificate, run_id
        Of the run.
    """
    changed = changed_products(run_dir, certificate)
    return [
        *(f"{path} {'differs' if path.exists() else 'is missing'}" for path in changed),
        *(f"{path} is damaged" for path in damaged_simulations(run_dir, run_id)),
    ]


def damaged_simulations(run_dir: RunDir, run_id: str) -> list[Path]:
    """Files of `assess` that are not as they were written; others beside them are nobody's concern.

    Parameters
    ----------
    run_dir, run_id
        Of the run.
    """
    found = []
    for path in listed(run_dir.assessed, "*.npz"):
        if _SIMULATED.fullmatch(path.name):
            try:
                read_sealed_archive(path, run_id)
            except DamageError:
                found.append(path)
    return found


def is_small(plan: Plan) -> bool:
    """Whether the whole map may be held in memory and in one FITS file."""
    return plan.grid.map_box.area <= SMALL_MAP_PIXELS


def map_hdu(
    name: str, pixels: NDArray[Any], header_text: str, scales: Sequence[float], unit: str = ""
) -> fits.ImageHDU:
    """Make the HDU of an image (y, x), or of a cube (scale, y, x) with an axis of scales in pixels.

    Parameters
    ----------
    name : str
        Of the map; that of the HDU is the same in capitals.
    pixels : ndarray
        Booleans become uint8.
    header_text : str
        FITS cards of the WCS of the pixels, each on a line.
    scales : sequence of float
        Scales of the kernels, in pixels.
    unit : str, optional
        Of the pixels; that of the map where not given.
    """
    header = fits.Header.fromstring(header_text, sep="\n")
    if pixels.ndim == 3:
        _add_scale_axis(header, scales)
    if unit := unit or spec_of(name).unit:
        header["BUNIT"] = unit
    return fits.ImageHDU(pixels.astype(np.uint8) if pixels.dtype == bool else pixels, header, name.upper())


def _add_scale_axis(header: fits.Header, scales: Sequence[float]) -> None:
    if any(card.endswith("_ORDER") for card in header):
        # SIP distorts two axes: astropy refuses to read it with a third.
        return
    # The standard's logarithmic axis: S = CRVAL exp(CDELT (p - CRPIX) / CRVAL).
    step = scales[0] * math.log(scales[1] / scales[0]) if len(scales) > 1 else scales[0]
    matrix = next((card for card in header if card.startswith("CD") and not card.startswith("CDELT")), "")
    # Readers ignore CDELT3 where there is a matrix with the steps in it.
    step_card = "CDELT3" if not matrix else "CD3_3" if "_" in matrix else "CD003003"
    cards = {"WCSAXES": 3, "CTYPE3": "SCAL-LOG", "CNAME3": "scale", "CUNIT3": "pixel"}
    header.update(cards | {"CRPIX3": 1.0, "CRVAL3": scales[0], step_card: step})


def write_maps_fits(run_dir: RunDir, plan: Plan, survey: Survey) -> None:
    """Write images and cubes of the whole map, each with its WCS, as HDUs of one FITS file.

    Parameters
    ----------
    run_dir, plan, survey
        Of a run with all maps.
    """
    scales = plan.kernels.scales.tolist()
    with drafted_file(run_dir.maps_fits) as draft:
        fits.PrimaryHDU().writeto(draft, overwrite=True)
        # One after the other: only one image is held at a time.
        for name, image in _images(run_dir, plan, survey):
            hdu = map_hdu(name, image, survey.header_text, scales)
            fits.append(draft, hdu.data, hdu.header, verify=False)


def _images(run_dir: RunDir, plan: Plan, survey: Survey) -> Iterator[tuple[str, NDArray[np.generic]]]:
    maps = open_group(run_dir.maps, whole="run")

    def whole(name: str) -> NDArray[np.generic]:
        pixels: NDArray[np.generic] = (
            survey.read(name, plan.grid.map_box) if spec_of(name).origin == "survey" else maps[name][:]
        )
        return pixels

    # Cubes last.
    for spec in sorted(maps_in("fits"), key=lambda spec: len(spec.axes)):
        if spec.name == "approx_bkg":
            yield spec.name, _approx_bkg(plan, survey)
        elif spec.derive:
            yield spec.name, spec.derive(*map(whole, spec.sources))
        else:
            yield spec.name, whole(spec.name)


def _approx_bkg(plan: Plan, survey: Survey) -> NDArray[np.float64]:
    """Background smoothed by the approximation kernel (y, x); for one convolution a margin of its reach is enough."""
    kernels, tiles = plan.kernels, plan.grid
    shape = tiles.map_box.shape
    grid = TileGrid.plan(shape, tiles.core_shape, kernels.reach, kernels.reach, fast_length, ring=tiles.ring)
    survey = Survey.open(survey.path, ring=tiles.ring)
    approx_bkg = np.empty(shape)
    for tile in grid.tiles():
        window = survey.read_window(tile.window, tile.box)
        smoothed = smooth(window.background, window.valid, kernel_spectra(kernels, grid.box_shape))
        approx_bkg[tile.core.slices] = smoothed[tile.core.within(tile.box)]
        window.close()
    forget()
    return approx_bkg
