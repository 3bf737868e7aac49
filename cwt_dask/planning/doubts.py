"""What a plan warns of."""

from __future__ import annotations

import math

from cwt_dask.geometry.margins import growth
from cwt_dask.planning.plan import Plan
from cwt_dask.psf import PointSpread
from cwt_dask.survey import SurveyStatistics

# Growth an iteration that a run would show: a tenth in a hundred of them.
UNSTABLE = 1.001
# Number of times that each pixel may be computed, by tiles that a user chooses, before that is warned about.
MOST_REPETITION = 25
# Counts of background in the finest kernel's disc below which noise alone has T/E far above 5.
FEW_COUNTS = 5.0
# Sigma of a point spread function, in pixels, below which it matters that two pixels of a survey may lie in one of a
# facet.
FINE_ON_FACETS = 0.7


def warnings_of(plan: Plan, statistics: SurveyStatistics, spread: PointSpread | None) -> list[str]:
    """Say what may be wrong with what a plan is to find.

    Parameters
    ----------
    plan : Plan
        The plan, without its warnings.
    statistics : SurveyStatistics
        Of its survey.
    spread : PointSpread, optional
        The point spread function, where one is given.
    """
    found = []
    if not plan.bounded:
        found.append(
            f"no margin bounds what tiles do with these kernels, {plan.settings.max_iter} iterations and pixels of "
            f"{plan.brightest:g} counts: nothing is promised; take fewer iterations, coarser scales or one tile"
        )
    elif not plan.margin_suffices:
        error = plan.expected_error
        bound = "no bound exists for its error" if error is None else f"its error may reach {error:.0e} of the model"
        found.append(
            f"the margin of {plan.settings.margin} pixels is below the contract's {plan.contract_margin}: {bound}"
        )
    # The finest kernel is positive on a disc of that many pixels.
    disc_area = 2 * math.pi * plan.kernels.widths[0] ** 2
    in_disc = disc_area * statistics.background_sum / max(statistics.n_valid, 1)
    if in_disc < FEW_COUNTS:
        found.append(
            f"few counts: the finest kernel's disc is expected to hold {in_disc:.2g} of background on average: T/E is "
            "no number of sigmas, and noise alone makes tens to thousands of islands above 5 a million pixels "
            '(on the page "What to know about the outputs"): go by the score and expected_false of the catalogue'
        )
    # Twice the radius of the disc on which the coarsest kernel is positive.
    widest = 2 * math.sqrt(2) * plan.kernels.widths[-1]
    if widest > min(statistics.shape):
        found.append(
            f"the coarsest kernel is {widest:.0f} pixels wide, and the map {min(statistics.shape)}: most of what it "
            "sees is beyond the map, which counts as empty sky; take fewer or finer scales"
        )
    box, core = plan.grid.box_shape, plan.grid.core_shape
    repetition = math.prod(box) / math.prod(core)
    if plan.settings.tile_size != "auto" and repetition > MOST_REPETITION:
        found.append(
            f"tiles of {core[0]} x {core[1]} pixels are computed in boxes of {box[0]} x {box[1]}, each pixel "
            f"{repetition:.0f} times: choose a larger tile_size, or auto"
        )
    if growth(plan.kernels) > UNSTABLE:
        found.append(
            f"with these kernels the model can grow {growth(plan.kernels):.2f}-fold an iteration, also without tiles: "
            "take fewer iterations or a coarser finest scale"
        )
    if plan.settings.stopping == "tile" and plan.grid.n_tiles > 1:
        found.append("stopping is tile: tiles stop at iterations of their own, the model has steps at their seams")
        if plan.settings.significance_island_threshold is not None:
            found.append("stopping is tile: islands that leave a tile's window are decided by what it sees of them")
    island_threshold = plan.settings.significance_island_threshold
    if island_threshold is not None and island_threshold <= plan.settings.significance_threshold:
        found.append(
            f"significance_island_threshold {island_threshold:g} is not above significance_threshold: it has no effect"
        )
    if plan.grid.ring and not statistics.wraps:
        found.append(
            "wrap is yes, but by its WCS the map does not close the circle: it is assumed that its columns show the "
            "whole circle, each part once, so that the last is the neighbour of the first"
        )
    if statistics.wraps and not plan.grid.ring:
        found.append("wrap is no, but by its WCS the map closes the circle: its first and last column are borders")
    if spread is not None and statistics.sphere and (sigma := spread.sigma) < FINE_ON_FACETS:
        found.append(
            f"the point spread function has a sigma of {sigma:.3g} pixels: below {FINE_ON_FACETS} facets blur where "
            "counts lie, and counts of sources scatter by 2 % and more for it; take a map of finer pixels"
        )
    return found
