"""Which planes belong together: the pixels of two images, and the energies of the planes of two cubes."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.units import Quantity, Unit
from numpy.typing import NDArray

from cwt_dask.config.validation import Energy, format_energy
from cwt_dask.errors import SurveyError

# Names of columns; GADF, OGIP and Fermi's tools have their own.
_LOW = re.compile(r"((?:MC_)?E(?:N(?:ERGY?)?)?(?:_?TRUE)?_?)(MIN|LO)")
_NODE = re.compile(r"(?:MC_)?ENERGY(?:_?TRUE)?")
_UPPER = {"MIN": "MAX", "LO": "HI"}
_OWN_GRIDS = ("NPIX", "CDELT", "CRPIX")
# Where headers name the axes of a cube beyond those of the sky.
_AXIS = re.compile(r"CTYPE[3-9]|AXCOLS\d|AXTYPE\d?")
_TRUE = re.compile(r"TRUE|MC_")
# Tables of Fermi's tools, whose columns may lack a unit.
_UNITS = {"ENERGIES": "MeV", "EBOUNDS": "keV"}
# Relative: edges are written with float32, or with six digits.
SAME_ENERGY = 1e-3


class MisfitError(SurveyError):
    """A plane does not belong to the counts: an error where it was asked for, else it is left out."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}: {remedy}")
        self.reason = reason


@dataclass(frozen=True)
class Bands:
    """What a file says of the energies of a cube's planes."""

    true: bool = False  # Whether it calls them true energies.
    # (plane, lower and upper), in TeV; both the same where one energy is given. None where it gives none.
    edges: NDArray[np.float64] | None = None
    of_header: bool = False  # Whether the header gives them: tools write those of a linear axis where it is none.

    @property
    def kind(self) -> str:
        """What energies they are, and which."""
        span = "" if self.edges is None else f" from {self.edges[0, 0]:.4g} to {self.edges[-1, 1]:.4g} TeV"
        return f"planes of {'true' if self.true else 'measured'} energy{span}"

    @property
    def bins(self) -> NDArray[np.float64] | None:
        """Lower and upper edge of each plane's energies; None where a table gives no bins that follow each other."""
        edges = self._rising
        return edges if edges is not None and np.all(edges[:, 0] < edges[:, 1]) else None

    @property
    def nodes(self) -> NDArray[np.float64] | None:
        """The energy of each plane; None where a table gives none that rise."""
        edges = self._rising
        return edges[:, 0] if edges is not None and np.array_equal(edges[:, 0], edges[:, 1]) else None

    @property
    def _rising(self) -> NDArray[np.float64] | None:
        edges = None if self.of_header else self.edges
        if edges is None or not np.isfinite(edges).all() or edges[0, 0] <= 0 or np.any(np.diff(edges, axis=0) <= 0):
            return None
        return edges

    def same_energies(self, other: Bands) -> bool | None:
        """Whether the energies are those of another cube of as many planes; None where the files do not say."""
        if self.edges is None or other.edges is None or self.of_header != other.of_header:
            return None
        return _agree(self.edges, other.edges)


def read_bands(hdu: Any, hdus: Any, where: str, *, n_planes: int | None = None, is_only: bool | None = None) -> Bands:
    """Read what a file says of the planes of a cube: its table of bands, else its header.

    Parameters
    ----------
    hdu, hdus
        The cube, and all HDUs of its file.
    where : str
        The cube, for messages.
    n_planes : int, optional
        How many planes it has; those of an image are known.
    is_only : bool, optional
        Whether it is the only cube of its file; of images it is known.

    Raises
    ------
    MisfitError
        If planes have pixels of their own.
    """
    # Of a map of the sphere the number of pixels tells nothing of which they are.
    grids = _OWN_GRIDS if n_planes is None else ()
    if n_planes is None:
        n_planes = int(np.prod(hdu.shape[:-2], dtype=int))
        is_only = [each for each in hdus if each.is_image and each.shape] == [hdu]
    table = _table_of(hdu, hdus, n_planes, is_only=bool(is_only))
    columns = {} if table is None else {column.name.upper(): column for column in table.columns}
    own = [name for name in grids if name in columns and len({str(row) for row in table.data[name]}) > 1]
    if own:
        raise MisfitError(
            f"{where} has planes with pixels of their own ({', '.join(own)} in its table {table.name})",
            "resample them to one grid first",
        )
    told = axes_told(hdu.header).upper()
    if table is None or len(table.data) != n_planes:
        if n_planes == 1 and (selected := _of_selection(hdu.header)) is not None:
            return Bands(edges=selected)
        return Bands(bool(_TRUE.search(told)), _of_header(hdu.header, n_planes), of_header=True)
    return _bands_of(table, told)


def ebounds_of(hdus: Any) -> Bands | None:
    """Read EBOUNDS of a file, the bands of its counts; None where there is none."""
    table = next((hdu for hdu in hdus if not hdu.is_image and hdu.name.upper() == "EBOUNDS"), None)
    return None if table is None else _bands_of(table, "")


def _bands_of(table: Any, told: str) -> Bands:
    """Energies in the rows of a table; `told` is what the header of the cube calls its axes."""
    columns = {column.name.upper(): column for column in table.columns}
    # Gammapy writes edges half-way between energies, too, and names the columns that count.
    names = _energy_columns([name for name in columns if name == told]) or _energy_columns(columns)
    return Bands(bool(_TRUE.search(" ".join((told, *names)))), _of_table(table, [columns[name] for name in names]))


def axes_told(header: Any) -> str:
    """What a header calls the axes of a cube beyond those of the sky."""
    return " ".join(str(header[key]) for key in header if _AXIS.fullmatch(str(key)))


def table_of_energies(axis: Any, name: str) -> fits.BinTableHDU:
    """Table of the planes along an axis of Gammapy's, a row for each, as `read_bands` reads it."""
    edges = Quantity(axis.edges)
    columns = {f"{axis.name}_min".upper(): edges[:-1], f"{axis.name}_max".upper(): edges[1:]}
    if getattr(axis, "node_type", "edges") == "center":
        columns = {axis.name.upper(): Quantity(axis.center)}
    return fits.BinTableHDU(Table(columns), name=name)


def _table_of(hdu: Any, hdus: Any, n_planes: int, *, is_only: bool) -> Any:
    """The table of a cube's planes; None where there is none."""
    wanted = [str(hdu.header.get("BANDSHDU", "")).upper(), f"{hdu.name}_BANDS".upper()]
    tables = {each.name.upper(): each for each in hdus if not each.is_image}
    if is_only:
        wanted += ["BANDS", "EBOUNDS", "ENERGIES"]
    elif "EBOUNDS" in tables and len(tables["EBOUNDS"].data) == n_planes:
        # Of all images of the file, as Fermi's tools write them.
        wanted += ["EBOUNDS"]
    return next((tables[name] for name in wanted if name in tables), None)


def _energy_columns(names: Any) -> list[str]:
    """Columns of lower and upper edges, or the one of nodes."""
    for name in names:
        if (low := _LOW.fullmatch(name)) and (upper := low[1] + _UPPER[low[2]]) in names:
            return [name, upper]
    return [name for name in names if _NODE.fullmatch(name)][:1]


def _of_table(table: Any, columns: list[Any]) -> NDArray[np.float64] | None:
    unit = _UNITS.get(table.name.upper())
    values = [_in_tev(table.data[column.name], column.unit or unit) for column in columns]
    known = [value for value in values if value is not None and value.ndim == 1]
    return np.stack([known[0], known[-1]], axis=1) if known and len(known) == len(values) else None


def _of_header(header: Any, n_planes: int) -> NDArray[np.float64] | None:
    """Energies of a linear axis."""
    first, step, reference = (header.get(f"{name}3") for name in ("CRVAL", "CDELT", "CRPIX"))
    numbers = all(isinstance(number, int | float) for number in (first, step, reference))
    if not numbers or str(header.get("CTYPE3")).strip().upper() not in ("ENERGY", "ENERGY_TRUE", "PHOTON ENERGY"):
        return None
    nodes = _in_tev(first + step * (np.arange(1, n_planes + 1) - reference), header.get("CUNIT3"))
    return None if nodes is None else np.stack([nodes, nodes], axis=1)


def _of_selection(header: Any) -> NDArray[np.float64] | None:
    """Energies that the events of a counts map were selected by, as Fermi's tools note it (DSTYP, DSUNI, DSVAL)."""
    for key in header:
        if re.fullmatch(r"DSTYP\d+", key) and str(header[key]).strip().upper() == "ENERGY":
            number = key[5:]
            span = re.fullmatch(r"([^:]+):([^:]+)", str(header.get(f"DSVAL{number}")))
            with suppress(ValueError):
                edges = span and _in_tev(np.array([[float(span[1]), float(span[2])]]), header.get(f"DSUNI{number}"))
                if edges is not None and 0 < edges[0, 0] < edges[0, 1]:
                    return edges
    return None


def open_energies(header: Any) -> str:
    """Energies of the events on a counts map for which one bound was given, for people; empty where none or both were.

    Both are noted as Fermi's tools do, which have no way for one.
    """
    if "NLISTS" not in header or ("EMIN" in header) == ("EMAX" in header):
        return ""
    if "EMIN" in header:
        return f"{_FROM}{format_energy(header['EMIN'])}"
    return f"{_UP_TO}{format_energy(header['EMAX'])}"


_FROM, _UP_TO = "from ", "up to "


def band_of(energies: str) -> tuple[float, float] | None:
    """Lower and upper energy in TeV, of the text that files and stores have of it alike; None of an empty one."""
    if not energies:
        return None
    if energies.startswith(_FROM):
        return (_tev(energies.removeprefix(_FROM)), np.inf)
    if energies.startswith(_UP_TO):
        return (0.0, _tev(energies.removeprefix(_UP_TO)))
    first, _, last = energies.partition(" to ")
    return (_tev(first), _tev(last or first))


def _tev(energy: str) -> float:
    value: float = Energy().check("energies of the counts", energy)
    return value


def _in_tev(values: Any, unit: Any) -> NDArray[np.float64] | None:
    try:
        return np.asarray(values * Unit(unit or "").to("TeV"), np.float64)
    except (ValueError, TypeError):
        return None


def _agree(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether edges are the same, or the energies of one lie in the bands of the other."""
    if all((edges[:, 0] < edges[:, 1]).any() for edges in (one, other)):
        return bool(np.allclose(one, other, rtol=SAME_ENERGY, atol=0))
    (low, high), (other_low, other_high) = one.T, other.T
    slack = 1 + SAME_ENERGY
    return bool(np.all((low <= other_high * slack) & (other_low <= high * slack)))
