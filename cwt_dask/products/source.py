"""What plots, cutouts and summaries need of a run; `cwt_dask.SurveyRun` has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from cwt_dask.planning.runfile import StoredRun
from cwt_dask.storage.layout import RunDir
from cwt_dask.survey import Survey

if TYPE_CHECKING:
    import zarr
    from astropy.table import Table


class MapSource(Protocol):
    """A run, as its products see it."""

    files: RunDir

    @property
    def stored(self) -> StoredRun:
        """The plan that the run follows, and its survey's store."""

    @property
    def survey(self) -> Survey:
        """The survey that was analysed."""

    @property
    def wcs(self) -> Any:
        """Sky coordinates of the maps."""

    @property
    def catalogue(self) -> Table:
        """One row a source."""

    @property
    def certificate(self) -> Mapping[str, Any]:
        """What was promised and the evidence for it."""

    def stored_map(self, name: str) -> zarr.Array[Any]:
        """Find an array of `maps.zarr` by name."""
