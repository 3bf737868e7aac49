"""A run's results, opened lazily."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

from cwt_dask.config.validation import shown
from cwt_dask.errors import InputError, RunError, SurveyError
from cwt_dask.history import History, IterationMaps
from cwt_dask.merge.certificate import fault_of
from cwt_dask.planning.runfile import StoredRun, read_run
from cwt_dask.products.cutouts import Cutouts
from cwt_dask.products.plots import Plots
from cwt_dask.products.sampling import Positions
from cwt_dask.products.summary import RESUME, Certificate, run_html
from cwt_dask.products.tables import read_digested
from cwt_dask.psf import PointSpread, kept_point_spread
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.paths import as_path, open_file, read_file
from cwt_dask.storage.progress import read_progress
from cwt_dask.storage.schema import HISTORY, is_map, map_names, spec_of
from cwt_dask.storage.sealed import BROKEN
from cwt_dask.storage.zarr_io import MALFORMED, open_group
from cwt_dask.survey import sky_on

if TYPE_CHECKING:
    from collections.abc import Callable

    import dask.array
    import zarr
    from astropy.table import Table
    from astropy.wcs import WCS

    from cwt_dask.survey import Survey


class SurveyRun(Plots, Cutouts, Positions):
    """A run directory: maps as Dask arrays, catalogue, certificate. `open` and `run_survey` give one.

    Parameters
    ----------
    files : RunDir
        Paths of the run's files.
    stored : StoredRun
        The plan that the run follows, and its survey's store.

    Examples
    --------
    >>> import tempfile
    >>> from cwt_dask import SurveyRun, run_survey
    >>> from cwt_dask.simulate import simulate
    >>> folder = tempfile.mkdtemp()
    >>> sources = simulate(f"{folder}/survey.fits", (60, 80), seed=1)
    >>> run = run_survey(f"{folder}/survey.fits", f"{folder}/run", max_iter=2, workers=0, no_report=True)
    >>> run.model.shape, run.promises_kept
    ((60, 80), True)
    """

    def __init__(self, files: RunDir, stored: StoredRun) -> None:
        self.files = files
        self.stored = stored

    @classmethod
    def open(cls, path: str | PathLike[str]) -> SurveyRun:
        """Open a run directory.

        Parameters
        ----------
        path : path-like
            The directory, or its URL.

        Returns
        -------
        SurveyRun
            The run, finished or not: what it has not made yet raises an error when it is asked for.

        Raises
        ------
        InputError
            If it is not one.

        Examples
        --------
        >>> import tempfile
        >>> from cwt_dask import SurveyRun, run_survey
        >>> from cwt_dask.simulate import simulate
        >>> folder = tempfile.mkdtemp()
        >>> sources = simulate(f"{folder}/survey.fits", (60, 80), seed=1)
        >>> run = run_survey(f"{folder}/survey.fits", f"{folder}/run", max_iter=2, workers=0, no_report=True)
        >>> SurveyRun.open(f"{folder}/run").certificate["n_tiles"]
        1
        """
        files = RunDir(as_path(path).absolute())
        return cls(files, read_run(files))

    def __repr__(self) -> str:
        done = f"{read_progress(self.files, self.stored.run_id).n_done} of {self.stored.plan.grid.n_tiles} tiles done"
        return f"SurveyRun({str(self.files.path)!r}: {done})"

    def _repr_html_(self) -> str:
        return run_html(self)

    @property
    def model(self) -> dask.array.Array:
        """Model M in counts per pixel, float64 (y, x). It is not flux: it holds what the iteration has found."""
        return self.map("model")

    @property
    def approx(self) -> dask.array.Array:
        """Approximation A in counts per pixel, float64 (y, x)."""
        return self.map("approx")

    @property
    def residual(self) -> dask.array.Array:
        """Counts - (model + approximation), float64 (y, x); it holds the background: see `map`."""
        return self.map("residual")

    @property
    def significance(self) -> dask.array.Array:
        """Largest T/E over scales and iterations, float64 (y, x), 0 where undefined; not a number of sigmas."""
        return self.map("significance")

    @property
    def support(self) -> dask.array.Array:
        """Pixels that were significant, by scale, bool (scale, y, x)."""
        return self.map("support")

    def map(self, name: str) -> dask.array.Array:
        """Look an array of `maps.zarr` up by its name, or one that follows from them.

        Parameters
        ----------
        name : str
            Such as model, joined or trust: `maps.zarr` names them; or excess_residual, model_plus_approx, support_2d.

        Returns
        -------
        dask.array.Array
            Its chunks are the tiles' cores.

        Raises
        ------
        InputError, RunError
            As `stored_map`; and for excess_residual on the sphere, where background and maps have other pixels.

        Examples
        --------
        >>> import tempfile
        >>> from cwt_dask import run_survey
        >>> from cwt_dask.simulate import simulate
        >>> folder = tempfile.mkdtemp()
        >>> sources = simulate(f"{folder}/survey.fits", (60, 80), seed=1)
        >>> run = run_survey(f"{folder}/survey.fits", f"{folder}/run", max_iter=2, workers=0, no_report=True)
        >>> run.map("trust").dtype, run.map("support").shape
        (dtype('uint8'), (2, 60, 80))
        """
        from dask.array import from_zarr  # noqa: PLC0415 - a run does without Dask

        spec, grid = spec_of(name), self.stored.plan.grid
        if not spec.derive:
            return from_zarr(self.stored_map(name))
        of_survey = {source for source in spec.sources if spec_of(source).origin == "survey"}
        if of_survey and len(grid.array_shape) > 2:
            raise InputError(f"{name} of the sphere is no array: at, plot, cutout and to_gammapy have it")
        planes = (
            from_zarr(self.survey.array(source), chunks=grid.core_shape) if source in of_survey else self.map(source)
            for source in spec.sources
        )
        derived: dask.array.Array = spec.derive(*planes)
        return derived

    def stored_map(self, name: str) -> zarr.Array[Any]:
        """Look an array of `maps.zarr` up by its name, as Zarr has it.

        Parameters
        ----------
        name : str
            Such as model, joined or trust: `maps.zarr` names them.

        Returns
        -------
        zarr.Array
            The array in its store.

        Raises
        ------
        InputError
            If there is none of this name.
        RunError
            If what describes it is damaged; if a finished run has lost some of it, when that is read.
        """
        # Before the run is finished a chunk that is not there is one that is not made yet.
        finished = self.files.certificate.exists()
        try:
            group = open_group(self.files.maps, whole="run" if finished else "")
            found = group.get(name)
            others = [] if is_map(found) else map_names(group)
        except (FileNotFoundError, *MALFORMED) as error:
            raise RunError(
                f"{self.files.maps} is damaged ({shown(error)}): the same run command repairs the metadata"
            ) from error
        if not is_map(found):
            raise InputError(f"the run has no map {name}: there are {', '.join(others)}")
        return found

    @property
    def history(self) -> History:
        """The start and the whole maps after every iteration: `history[i]`, `history[i] - history[j]`.

        Raises InputError if the run is not finished or keeps no history.

        Examples
        --------
        >>> import tempfile
        >>> from cwt_dask import run_survey
        >>> from cwt_dask.simulate import simulate
        >>> folder = tempfile.mkdtemp()
        >>> sources = simulate(f"{folder}/survey.fits", (60, 80), seed=1)
        >>> options = {"keep_history": True, "max_iter": 2, "workers": 0, "no_report": True}
        >>> history = run_survey(f"{folder}/survey.fits", f"{folder}/run", **options).history
        >>> len(history), float(history[0].model.sum()), history[2].model.shape
        (3, 0.0, (60, 80))
        """
        if not self.stored.keeps_history:
            raise InputError(f"{self.files.path} keeps no history: run with --keep-history")
        return History(self.certificate["n_iter"], self._after)

    def _after(self, iteration: int) -> IterationMaps:
        from dask.array import zeros_like  # noqa: PLC0415 - see `map`

        joined = self.map("joined")
        model = self.map(HISTORY)[iteration - 1] if iteration else zeros_like(self.model)
        return IterationMaps(self.survey.counts, self.survey.background, model, (joined > 0) & (joined <= iteration))

    @property
    def survey(self) -> Survey:
        """The survey that was analysed."""
        return self.stored.survey

    @property
    def psf(self) -> PointSpread | None:
        """The point spread function on the map's pixels; None where the run was given none.

        Raises RunError if it is damaged.
        """
        return kept_point_spread(self.files, self.stored.plan.settings.psf, self.wcs)

    @cached_property
    def wcs(self) -> WCS:
        """Celestial WCS of the maps."""
        with suppress(SurveyError):
            return sky_on(self.survey.header_text, self.stored.plan.grid)
        # Without the survey: the maps have its WCS.
        return sky_on(open_group(self.files.maps).attrs["wcs_header"], self.stored.plan.grid)

    @property
    def catalogue(self) -> Table:
        """One row a source.

        Raises InputError if the run has not got that far, RunError if it is damaged.
        """

        def digest() -> str:
            return str(self.certificate["digest_catalogue"])

        try:
            return self._read_table("catalogue", digest)
        except RunError:
            # That which `match` was replacing when it was killed.
            if self.files.certificate.exists() and self.files.catalogue_before.exists():
                with suppress(RunError):
                    return self._read_table("catalogue_before", digest)
            raise

    @property
    def candidates(self) -> Table:
        """What is not in the catalogue, with the same columns: noise is to be expected among its first rows.

        Raises InputError if the run has not got that far, RunError if it is damaged.
        """
        return self._read_table("candidates")

    @property
    def assessment(self) -> Table:
        """What simulations say of the catalogue: see `cwt_dask.assess.assess`. Raises as `candidates`."""
        return self._read_table("assessment")

    def _read_table(self, what: str, digest: Callable[[], str] | None = None) -> Table:
        path = getattr(self.files, what)
        if not path.exists():
            raise self._missing(what)
        # Nothing says what it was before the end, and then what the certificate does not cover is none of the run's.
        finished = self.files.certificate.exists()
        known = (digest() if digest else self.certificate["digest_products"].get(path.name)) if finished else ""
        with open_file(path) as file:
            try:
                found, digested = read_digested(file)
            except Exception as error:  # of astropy, or of YAML below it
                raise self._damaged(what, shown(error)) from error
        if known not in ("", digested):
            raise self._damaged(what, BROKEN)
        return found

    @property
    def certificate(self) -> Certificate:
        """What was promised and the evidence for it: a dict. Raises as `candidates`."""
        certificate = self.read_certificate()
        if fault := fault_of(certificate, self.stored.run_id, self.stored.plan):
            raise self._damaged("certificate", fault)
        return Certificate(certificate)

    def read_certificate(self) -> dict[str, Any]:
        """Read what the certificate says, unchecked: `verify` checks it.

        Returns
        -------
        dict
            The file's content.

        Raises
        ------
        InputError, RunError
            As `certificate`.
        """
        if not self.files.certificate.exists():
            raise self._missing("certificate")
        try:
            certificate = json.loads(read_file(self.files.certificate))
        except (IsADirectoryError, ValueError, RecursionError) as error:
            raise self._damaged("certificate", error) from error
        if not isinstance(certificate, dict):
            raise self._damaged("certificate", "it is no table")
        return certificate

    def _missing(self, what: str) -> InputError:
        return InputError(f"{self.files.path} has no {what} yet: the run is not finished; {RESUME}")

    def _damaged(self, what: str, reason: object) -> RunError:
        path = getattr(self.files, what)
        return RunError(f"{path} is damaged ({reason}): delete it: the same run command makes it again")

    @property
    def promises_kept(self) -> bool:
        """Whether every pixel was done once, and tiles did no harm if the plan promised that."""
        certificate = self.certificate
        return certificate["coverage"] == 1.0 and (certificate["tiling_exact"] or not self.stored.plan.exact)
