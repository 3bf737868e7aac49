"""How a plan is made: settings resolved for one survey."""

from __future__ import annotations

from dataclasses import replace

from cwt_dask.config.settings import Settings, kernels_of
from cwt_dask.cwt.arrays import Floats
from cwt_dask.cwt.kernels import CWTKernels
from cwt_dask.cwt.spectra import fast_length
from cwt_dask.geometry.facets import AnyGrid
from cwt_dask.geometry.margins import contract_margin
from cwt_dask.geometry.tiling import TileGrid
from cwt_dask.planning.cost import automatic_facets, automatic_grid
from cwt_dask.planning.doubts import warnings_of
from cwt_dask.planning.plan import Plan
from cwt_dask.planning.scales import ALL_GIVEN, TUTORIALS, with_scales
from cwt_dask.psf import PointSpread
from cwt_dask.survey import SurveyStatistics


def make_plan(
    settings: Settings,
    statistics: SurveyStatistics,
    spread: PointSpread | None = None,
    given: frozenset[str] = ALL_GIVEN,
    doubts: tuple[str, ...] = (),
) -> Plan:
    """Resolve settings for a survey.

    Parameters
    ----------
    settings : Settings
        As given.
    statistics : SurveyStatistics
        Of the survey.
    spread : PointSpread, optional
        The point spread function, where one is given.
    given : frozenset of str, optional
        Names of the settings that the user gives; default: all.
    doubts : tuple of str, optional
        More warnings.

    Raises
    ------
    SettingsError
        If they are impossible for the survey.
    """
    pixel_deg = statistics.pixel_scale_deg
    settings = with_scales(settings, given, spread, statistics.shape, pixel_deg)
    kernels = kernels_of(settings)
    # A single column is no neighbour of itself.
    ring = (statistics.wraps if settings.wrap == "auto" else settings.wrap == "yes") and statistics.shape[1] > 1
    contract = contract_margin(kernels, settings.max_iter, statistics.brightest)
    margin = contract if settings.margin == "auto" else settings.margin
    grid: AnyGrid
    if statistics.sphere:
        of_user, target = settings.tile_size, settings.memory_target
        grid = automatic_facets(
            statistics.sphere, margin, kernels, settings.max_iter, memory_target=target, tile_size=of_user
        )
    elif settings.tile_size == "auto":
        grid = automatic_grid(
            statistics.shape, margin, kernels, settings.max_iter, memory_target=settings.memory_target, ring=ring
        )
    else:
        grid = TileGrid.plan(statistics.shape, (settings.tile_size,) * 2, margin, kernels.reach, fast_length, ring=ring)
    plan = Plan(settings, grid, statistics.brightest, contract, statistics.digest, statistics.facts_digest, ())
    warnings = (*statistics.warnings, *doubts, *warnings_of(plan, statistics, spread))
    if spread is None and "min_scale" not in given:
        warnings += (TUTORIALS.format(scales=_in_words(kernels.scales)),)
    psf = "" if spread is None else _described(spread, kernels, statistics)
    return replace(
        plan,
        warnings=warnings,
        used=statistics.used,
        background=statistics.background,
        no_flux=statistics.no_flux,
        origins=statistics.origins,
        files=(*statistics.files, *(spread.files if spread else ())),
        psf=psf,
    )


def _described(spread: PointSpread, kernels: CWTKernels, statistics: SurveyStatistics) -> str:
    """What the point spread function is, and what the scales cover."""
    pixel_deg, scales = statistics.pixel_scale_deg, kernels.scales
    sigmas = spread.sigmas_on(statistics.shape)
    narrowest, widest = sigmas.min(), sigmas.max()
    sigma = f"{narrowest:.3g}" if widest < 1.005 * narrowest else f"{narrowest:.3g} to {widest:.3g}"
    return (
        f"{spread.origin or spread.kind}; sigma {sigma} pixels ({narrowest * pixel_deg:.3g} deg); scales "
        f"{_in_words(scales)} pixels, which cover sources of up to {scales[-1]:.3g} pixels "
        f"({scales[-1] * pixel_deg:.3g} deg) in sigma"
    )


def _in_words(scales: Floats) -> str:
    return ", ".join(f"{scale:.4g}" for scale in scales)
