"""What pictures and files need of a run: `cwt_dask.SurveyRun` is one such source of maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import zarr
    from astropy.table import Table
    from astropy.wcs import WCS

    from cwt_dask.planning.runfile import StoredRun
    from cwt_dask.storage.layout import RunDir
    from cwt_dask.survey import Survey


class MapSource(Protocol):
    """A run, as far as its products need to know it."""

    files: RunDir

    @property
    def stored(self) -> StoredRun:
        """The plan that the run follows, and its survey's store."""

    @property
    def survey(self) -> Survey:
        """The survey that was analysed."""

    @property
    def wcs(self) -> WCS:
        """Celestial WCS of the maps."""

    @property
    def catalogue(self) -> Table:
        """One row a source."""

    @property
    def certificate(self) -> Mapping[str, Any]:
        """What was promised and the evidence for it."""

    def stored_map(self, name: str) -> zarr.Array[Any]:
        """Look an array of `maps.zarr` up by its name, as Zarr has it."""
