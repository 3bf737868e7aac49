"""What the numbers of a report mean, in sentences."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from dask.utils import format_bytes

from cwt_dask.geometry.margins import TOLERANCE
from cwt_dask.report.data import FEW, relative_changes
from cwt_dask.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cwt_dask.planning.plan import Plan
    from cwt_dask.report.data import Numbers, Residuals, TileFacts
    from cwt_dask.report.table import Sources
    from cwt_dask.results import SurveyRun


@dataclass(frozen=True)
class Row:
    """A line of a table: what it is about, what it is, and what that means."""

    what: str
    value: str
    means: str = ""


@dataclass(frozen=True)
class Verdict:
    """Whether the tiles did harm.

    Attributes
    ----------
    kind : {"good", "bad", "open"}
        No harm; a promise is broken; nothing was promised.
    sentence : str
        The same in words.
    reasons : list of str
        What was found.
    """

    kind: str
    sentence: str
    reasons: list[str]


# A page's table of tiles holds so many.
MOST_TILES = 50
NOT_SAID = (
    "whether the background was right: a background that is too low anywhere makes sources there",
    (
        "how bright a source is: the model is not flux, it holds what the iteration has taken up; use the excess, "
        "which is counts less background in a disc, not corrected for what lies outside of it"
    ),
    "how improbable a source is: T/E is the published statistic, not a number of sigmas where counts are few",
    "whether all flux was found: converged means that steps have become small, not that the model is complete",
)


def verdict(plan: Plan, numbers: Numbers) -> Verdict:
    """Say whether the tiles did harm."""
    certificate = numbers.certificate
    if not certificate["tiling_exact"]:
        reasons = [*certificate["not_exact_because"]]
        if plan.exact:
            return Verdict("bad", "It was promised that the tiles do no harm, and that is not shown.", reasons)
        return Verdict("open", "It is not shown that the tiles did no harm, and it was not promised.", reasons)
    if certificate["n_tiles"] == 1 and certificate["margin_effective"] is None:
        return Verdict("good", "There was one tile, so no seam that could do harm.", [])
    error = certificate["seam_model_error"]
    differ = f"at most {error:.1e} of their maximum" if error else "nothing"
    return Verdict(
        "good",
        "The tiles did no harm: this is what the whole map, analysed at once, would have given.",
        [
            "every pixel was written exactly once",
            (
                f"windows overlap by {certificate['margin_effective']} pixels, and the contract asks for "
                f"{certificate['margin_contract']}"
            ),
            (
                f"where two neighbours computed the same pixels, their models differ by {differ} "
                f"({TOLERANCE:.0e} is allowed), and no pixel of the support differs"
            ),
            f"all tiles stopped at iteration {certificate['n_iter']}, as the whole map does",
        ],
    )


def evidence(numbers: Numbers) -> list[Row]:
    """What the certificate rests on."""
    said = numbers.certificate
    converged = {True: "yes", False: "no, the most iterations allowed were made", None: "not asked for"}
    return [
        Row(
            "Tiles",
            f"{said['n_tiles']}",
            f"cores of {said['tile_size'][0]} \N{MULTIPLICATION SIGN} {said['tile_size'][1]} pixels",
        ),
        Row("Coverage", f"{said['coverage']:g}", "1: every pixel was written exactly once"),
        Row(
            "Margin",
            "no seam" if said["margin_effective"] is None else f"{said['margin_effective']} pixels",
            f"the contract asks for {said['margin_contract']}; the kernels reach {said['reach']}",
        ),
        Row(
            "Largest seam error",
            "no seam" if said["seam_model_error"] is None else f"{said['seam_model_error']:.1e}",
            f"difference of the models over their maximum; at most {TOLERANCE:.0e}",
        ),
        Row("Support pixels that differ at seams", f"{said['seam_support_flips']}", "must be none"),
        Row("Islands left open", f"{said['open_islands']}", "on whose fate tiles did not come to agree; must be none"),
        Row(
            "Pixels within rounding of a threshold",
            f"{said['near_threshold_pixels']}",
            "on other processors these may turn out otherwise",
        ),
        Row(
            "Iterations",
            f"{said['n_iter']}",
            f"converged: {converged[said['converged']]}; that means small steps, not a complete model",
        ),
        Row(
            "Pixels that took no part",
            f"{said['masked_pixels']}",
            f"of these {said['off_sky_pixels']} off the sky, {said['nan_pixels']} NaN, the rest masked",
        ),
    ]


def key_figures(numbers: Numbers, sources: Sources) -> list[Row]:
    """What one wants to know first."""
    seconds = numbers.certificate["seconds"]["run"]
    return [
        Row("sources", f"{sources.total}"),
        Row("with T/E above 5", f"{sources.n_strong}"),
        Row("with a flag", f"{sources.n_flagged}"),
        Row("with negative excess", f"{sources.n_negative}"),
        Row("iterations", f"{numbers.certificate['n_iter']}"),
        Row("tiles", f"{numbers.certificate['n_tiles']}"),
        Row("run time", duration(seconds)),
    ]


def warnings(numbers: Numbers, sources: Sources) -> list[str]:
    """What to know before one believes the result."""
    found = list(numbers.certificate["warnings"])
    if numbers.stretch > 2**0.5 and numbers.stretched > 0:
        found.append(
            f"Pixels are up to {_times(numbers.stretch)} as long as wide on the sky, and more than 1.4 times on "
            f"{share(numbers.stretched)} of the map"
            + (", beyond 45° of latitude" if numbers.plate_carree else "")
            + ". Kernels are round in pixels: there they match no round source, and scales are not what they are in "
            "the middle."
        )
    elif numbers.uneven > 2**0.5:
        found.append(
            f"Pixels are {_times(numbers.uneven)} as large in one latitude as in another, as those of a Mercator map "
            "are beyond 45° of latitude. Scales are so many pixels everywhere: on the sky they differ by as much."
        )
    if numbers.few_counts > 0:
        found.append(
            f"Few counts a kernel: on {share(numbers.few_counts)} of the map fewer than {FEW:g} background counts are "
            f"expected in the finest kernel's disc ({numbers.disc_counts:.3g} on average over the map). T/E is no "
            "number of sigmas there: noise alone makes islands above 5."
        )
    used = max(numbers.n_used, 1)
    for flag, words in (
        (Trust.MAP_EDGE, "lie within the kernels' reach of the map's edge, beyond which counts as empty sky"),
        (Trust.MASKED_NEIGHBOUR, "lie within the kernels' reach of masked pixels, which count as empty sky"),
    ):
        if numbers.flagged[flag]:
            found.append(
                f"{share(numbers.flagged[flag] / used)} of the used pixels {words}: sources there are flagged."
            )
    if rings := numbers.flagged[Trust.ERROR_UNDEFINED]:
        found.append(
            f"Blind: at {rings} used pixels ({share(rings / used)}) the expected error was undefined or zero at some "
            "scale and iteration, as in rings around very bright sources. Nothing could be detected there then."
        )
    if sources.n_negative:
        found.append(
            f"{sources.n_negative} of {sources.total} sources have fewer counts than background in their disc: look at "
            "the excess beside T/E."
        )
    return found


def _times(ratio: float) -> str:
    """A ratio, as far as it means anything: at a pole it has no bound."""
    return "hundreds of times" if ratio >= 200 else f"{ratio:.3g} times"


def share(part: float) -> str:
    """A share in percent, never a rounded nothing."""
    percent = 100 * part
    return "less than 0.1 %" if 0 < percent < 0.1 else f"{percent:.2g} %" if percent < 10 else f"{percent:.0f} %"


def cost(plan: Plan, numbers: Numbers) -> list[Row]:
    """Time and memory against the plan."""
    said, tiles = numbers.certificate, numbers.tiles
    seconds, memory = said["seconds"], said["peak_memory"]
    spent = seconds["tiles"]
    taken = sum(tile.taken_over for tile in tiles)
    notes = "summed over the tiles; the plan's is rough, and counts all iterations"
    if taken:
        notes += f"; {taken} tiles were taken over, with their times"
    return [
        Row("Time of the tiles on one core", f"{duration(spent)}, planned {duration(plan.core_seconds)}", notes),
        Row(
            "Time of the run", duration(seconds["run"]), "of the last call, if it took several; the report not counted"
        ),
        Row(
            "Slowest tile",
            duration(max((tile.seconds for tile in tiles), default=0.0)),
            f"the middle one {duration(sorted(tile.seconds for tile in tiles)[len(tiles) // 2])}",
        ),
        Row(
            "Memory of a worker",
            f"at most {format_bytes(memory['worker'])}, planned {format_bytes(plan.worker_memory)}",
            "of whole processes, with all that else went on in them; the plan's is an upper bound",
        ),
        Row("Memory of the driver", f"at most {format_bytes(memory['driver'])}", "until the certificate was written"),
    ]


def slowest_tiles(tiles: Sequence[TileFacts]) -> list[list[str]]:
    """Number, iterations, time, memory and seam error of the slowest tiles, the slowest first."""
    slowest = sorted(tiles, key=lambda tile: -tile.seconds)[:MOST_TILES]
    return [
        [
            f"{tile.tile}",
            f"{tile.n_iter}",
            duration(tile.seconds),
            format_bytes(tile.memory),
            "no seam" if tile.seam_error is None else f"{tile.seam_error:.1e}",
        ]
        for tile in slowest
    ]


def tiles_in_words(tiles: Sequence[TileFacts]) -> str:
    """What the map of the tiles shows, for who does not see it."""
    least, most = min(tile.n_iter for tile in tiles), max(tile.n_iter for tile in tiles)
    slowest = max(tiles, key=lambda tile: tile.seconds)
    iterations = f"{most}" if least == most else f"{least} to {most}"
    return (
        f"tiles: {len(tiles)}, iterations: {iterations}; the slowest is tile {slowest.tile} "
        f"with {duration(slowest.seconds)}"
    )


def residuals_in_words(residuals: Residuals) -> str:
    """What the histogram shows; pixels beyond its edges are not counted."""
    mean, width = _mean_and_width(residuals.edges, residuals.pixels[1:-1])
    expected_mean, expected_width = _mean_and_width(residuals.edges, residuals.expected[1:-1])
    return (
        f"mean {mean:.2g} and width {width:.2g} counts per pixel, of Poisson counts mean {expected_mean:.2g} and width "
        f"{expected_width:.2g}"
    )


def _mean_and_width(edges: NDArray[np.float64], pixels: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation of what a histogram holds."""
    middles, n = (edges[:-1] + edges[1:]) / 2, max(float(pixels.sum()), 1.0)
    mean = float(middles @ pixels) / n
    return mean, float(np.sqrt((middles - mean) ** 2 @ pixels / n))


def convergence_in_words(variances: Sequence[float]) -> str:
    """How the relative change of the variance begins and ends."""
    changes = relative_changes(variances)
    if not changes:
        return "no change"
    (first, before), (last, after) = changes[0], changes[-1]
    return f"{before:.2g} at iteration {first}, {after:.2g} at iteration {last}"


def setting_rows(run: SurveyRun) -> list[Row]:
    """What was run."""
    plan, statistics = run.stored.plan, run.survey.statistics
    values = {name: value for name, value in asdict(plan.settings).items() if value is not None}
    grid = plan.grid
    return [
        Row("Survey", f"{run.stored.survey}"),
        Row(
            "Map",
            f"{grid.y.length} \N{MULTIPLICATION SIGN} {grid.x.length} pixels",
            "a ring: its columns close the circle" * grid.ring,
        ),
        Row("Pixel", f"{statistics.pixel_scale_deg:g}°", "at the map's centre"),
        Row("Counts", f"{statistics.counts_sum:.10g}", f"background expected: {statistics.background_sum:.10g}"),
        Row("Scales", ", ".join(f"{scale:g}" for scale in plan.kernels.scales), "pixels"),
        *(Row(name, f"{value}") for name, value in values.items()),
    ]


def duration(seconds: float) -> str:
    """A time, in its largest sensible unit."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
