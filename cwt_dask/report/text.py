"""The texts of a report: what its numbers mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cwt_dask.config.validation import counted, format_bytes
from cwt_dask.geometry.margins import TOLERANCE
from cwt_dask.planning.doubts import FEW_COUNTS
from cwt_dask.planning.plan import Plan
from cwt_dask.report.data import FEW, Numbers, TileSummary, error_text, relative_changes
from cwt_dask.report.facets import HARMLESS, evidence_of_facets, reasons_of_facets
from cwt_dask.report.residual import Residuals
from cwt_dask.report.sky import STRETCHED
from cwt_dask.report.table import Sources
from cwt_dask.results import SurveyRun
from cwt_dask.survey import describe_origin
from cwt_dask.trust import Trust


@dataclass(frozen=True)
class Row:
    """A row of a table: a quantity, its value, and what that means."""

    what: str
    value: str
    means: str = ""


@dataclass(frozen=True)
class Conclusion:
    """Whether the tiles did harm."""

    kind: str  # No harm; a promise is broken; nothing was promised.
    sentence: str  # The same as text.
    reasons: list[str]


# Rows of the table of tiles.
MOST_TILES = 50
# And of files, beyond which the certificate is named.
_MOST_FILES = 20
NOT_COVERED = (
    "whether the background was right: a background that is too low anywhere makes sources there",
    (
        "whether the point spread function was right: counts and flux of a source, its TS and extension depend on it; "
        "where none was given a Gaussian of the finest scale stands in"
    ),
    (
        "how many sources are structure that the background lacks: the expected number of false ones is that of "
        "Poisson noise on the background"
    ),
    (
        "flux in the map of the model: it holds what the iteration has found so far, and converged means that steps "
        "have become small, not that it is complete; the counts of a source are in the table"
    ),
)


def conclude(plan: Plan, numbers: Numbers) -> Conclusion:
    """Conclude whether the tiles did harm."""
    certificate = numbers.certificate
    if not certificate["tiling_exact"]:
        reasons = [*certificate["not_exact_because"]]
        if plan.exact:
            return Conclusion("bad", "It was promised that the tiles do no harm, and that is not shown.", reasons)
        return Conclusion("open", "It is not shown that the tiles did no harm, and it was not promised.", reasons)
    if certificate["n_tiles"] == 1 and certificate["margin_effective"] is None:
        return Conclusion("good", "There was one tile, so no seam that could do harm.", [])
    if "facets" in certificate:
        return Conclusion("good", HARMLESS, reasons_of_facets(certificate))
    error = certificate["seam_model_error"]
    differ = f"at most {error:.1e} of their maximum" if error else "nothing"
    return Conclusion(
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
    """Evidence of the certificate."""
    found = numbers.certificate
    rows, columns = found["tile_size"]
    margin = found["margin_effective"]
    facets = found.get("facets")
    converged = {True: "yes", False: "no, the largest number of iterations was made", None: "not asked for"}
    # fmt: off
    return [
        Row("Facets" if facets else "Tiles", f"{found['n_tiles']}",
            f"{'images' if facets else 'cores'} of {rows} \N{MULTIPLICATION SIGN} {columns} pixels"),
        Row("Coverage", f"{found['coverage']:g}", "1: every pixel was written exactly once"),
        Row("Margin", "no seam" if margin is None else f"{margin} pixels",
            f"the contract asks for {found['margin_contract']}; the kernels reach {found['reach']}"),
        *([Row(*row) for row in evidence_of_facets(facets)] if facets else [
            Row("Largest seam error", error_text(found["seam_model_error"]),
                f"difference of the models over their maximum; at most {TOLERANCE:.0e}"),
            Row("Support pixels that differ at seams", f"{found['seam_support_flips']}", "must be none"),
        ]),
        Row("Islands left open", f"{found['open_islands']}", "islands that tiles decided differently; must be none"),
        Row("Pixels within rounding of a threshold", f"{found['near_threshold_pixels']}",
            "these may differ on other processors"),
        Row("Iterations", f"{found['n_iter']}",
            f"converged: {converged[found['converged']]}; that means small steps, not a complete model"),
        Row("Pixels left out", f"{found['masked_pixels']}",
            f"of these {found['off_sky_pixels']} off the sky, {found['nan_pixels']} NaN, the rest masked"),
    ]
    # fmt: on


def key_figures(sources: Sources) -> list[Row]:
    """Key figures of the sources."""
    noise, associated = sources.expected_false, sources.n_associated
    return [
        Row("sources", f"{sources.total}"),
        *([] if noise is None else [Row("of them expected to be noise", f"{noise:.2g}")]),
        Row("with a score above 5", f"{sources.n_strong}"),
        Row("extended", f"{sources.n_extended}"),
        *([] if associated is None else [Row("associated", f"{associated}")]),
        Row("with a flag that asks for a look", f"{sources.n_flagged}"),
        Row("with negative excess", f"{sources.n_negative}"),
    ]


def warnings(numbers: Numbers, sources: Sources) -> list[str]:
    """Warnings of the plan, and of what the maps show: sentences, each once."""
    return list(dict.fromkeys(map(_sentence, [*numbers.certificate["warnings"], *_of_maps(numbers, sources)])))


def _sentence(warning: str) -> str:
    """A warning as a sentence: those of a plan have no end; what begins with a setting's name keeps its letters."""
    first = warning.partition(" ")[0]
    begun = warning[:1].upper() + warning[1:] if first.rstrip(":,").isalpha() else warning
    return begun if begun.endswith(".") else f"{begun}."


def _of_maps(numbers: Numbers, sources: Sources) -> list[str]:
    found = []
    if numbers.stretch > STRETCHED and numbers.stretched > 0:
        found.append(
            f"Pixels are up to {_times(numbers.stretch)} as long as wide on the sky, and more than 1.4 times on "
            f"{share(numbers.stretched)} of the map"
            + (", beyond 45° of latitude" if numbers.plate_carree else "")
            + ". Kernels are round in pixels: there they match no round source, and scales differ from those in the "
            "middle."
        )
    elif numbers.uneven > STRETCHED:
        found.append(
            f"Pixels are {_times(numbers.uneven)} as large in one latitude as in another, as those of a Mercator map "
            "are beyond 45° of latitude. A scale is the same number of pixels everywhere: on the sky it differs by as "
            "much."
        )
    # Of a map that is so as a whole the plan has said it.
    if numbers.few_counts > 0 and numbers.disc_counts >= FEW_COUNTS:
        found.append(
            f"Few counts per kernel: on {share(numbers.few_counts)} of the map fewer than {FEW:g} background counts "
            f"are expected in the finest kernel's disc ({numbers.disc_counts:.3g} on average over the map). T/E is not "
            "a number of sigmas there: noise alone makes islands above 5 in the map. Go by the score of the sources."
        )
    used = max(numbers.n_used, 1)
    for flag, text in (
        (Trust.MAP_EDGE, "lie within the kernels' reach of the map's edge, beyond which counts as empty sky"),
        (Trust.MASKED_NEIGHBOUR, "lie within the kernels' reach of masked pixels, which count as empty sky"),
    ):
        if n := numbers.flagged[flag]:
            found.append(f"{share(n / used)} of the used pixels {text}: sources there are flagged.")
    if rings := numbers.flagged[Trust.ERROR_UNDEFINED]:
        found.append(
            f"Blind: at {rings} used pixels ({share(rings / used)}) the expected error was undefined or zero at some "
            "scale and iteration, as in rings around very bright sources. Nothing could be detected there then."
        )
    if sources.n_negative:
        found.append(
            f"{sources.n_negative} of {sources.total} sources have fewer counts than background in their disc: look "
            "at what is around them, and at the background."
        )
    return found


def _times(ratio: float) -> str:
    """A ratio; at a pole it has no bound."""
    return "hundreds of times" if ratio >= 200 else f"{ratio:.3g} times"


def share(part: float) -> str:
    """A share in percent, not rounded to zero."""
    percent = 100 * part
    return "less than 0.1 %" if 0 < percent < 0.1 else f"{percent:.2g} %" if percent < 10 else f"{percent:.0f} %"


def cost(plan: Plan, numbers: Numbers) -> list[Row]:
    """Time and memory, measured and planned."""
    seconds, memory = numbers.certificate["seconds"], numbers.certificate["peak_memory"]
    records = [tile.record for tile in numbers.tiles]
    of_tiles = sorted(record.seconds for record in records)
    reused = sum(bool(record.taken_from) for record in records)
    notes = "sum over the tiles; the plan is rough, and counts all iterations"
    notes += f"; {reused} tiles were reused, with their times" if reused else ""
    # fmt: off
    return [
        Row("Time of the tiles on one core", f"{duration(seconds['tiles'])}, planned {duration(plan.core_seconds)}",
            notes),
        Row("Time of the run", duration(seconds["run"]), "of the last call, if there were several; without the report"),
        Row("Slowest tile", duration(of_tiles[-1]), f"median {duration(of_tiles[len(of_tiles) // 2])}"),
        Row("Memory of a worker",
            f"at most {format_bytes(memory['worker'])}, planned {format_bytes(plan.worker_memory)}",
            "of whole processes, with all that ran in them; the plan is an upper bound"),
        Row("Memory of the driver", f"at most {format_bytes(memory['driver'])}", "until the certificate was written"),
    ]
    # fmt: on


TILE_HEADS = ("Tile", "Iterations", "Time", "Memory of its process", "Largest seam error")
FACET_HEADS = ("Facet", "Iterations", "Time", "Memory of its process", "Counts in its cell", "Rows of the catalogue")


def slowest_tiles(tiles: Sequence[TileSummary], rows: Mapping[int, int] | None = None) -> list[list[str]]:
    """The slowest tiles, the slowest first, under `TILE_HEADS`; under `FACET_HEADS` of facets.

    Parameters
    ----------
    tiles : sequence of TileSummary
        All of them.
    rows : mapping of int to int, optional
        Of the sphere, rows of the catalogue by facet.
    """
    slowest = sorted(tiles, key=lambda tile: -tile.record.seconds)[:MOST_TILES]
    return [
        [
            *(f"{record.tile}", f"{record.n_iter}", duration(record.seconds), format_bytes(record.peak_memory)),
            *(
                [error]
                if record.owned_counts is None
                else [f"{record.owned_counts:g}", f"{(rows or {}).get(record.tile, 0)}"]
            ),
        ]
        for record, error in ((tile.record, error_text(tile.seam_error)) for tile in slowest)
    ]


def describe_tiles(tiles: Sequence[TileSummary]) -> str:
    """Describe the map of the tiles for readers that do not see it."""
    n_iter = {tile.record.n_iter for tile in tiles}
    slowest = max((tile.record for tile in tiles), key=lambda record: record.seconds)
    iterations = f"{min(n_iter)}" if len(n_iter) == 1 else f"{min(n_iter)} to {max(n_iter)}"
    return (
        f"tiles: {len(tiles)}, iterations: {iterations}; the slowest is tile {slowest.tile} "
        f"with {duration(slowest.seconds)}"
    )


def describe_residuals(residuals: Residuals) -> str:
    """Describe the histogram."""
    beyond = int(residuals.pixels[residuals.edges.searchsorted(5.0) + 1 :].sum())
    return (
        f"mean {residuals.mean:.2g} and width {residuals.width:.2g}, of a standard normal distribution 0 and 1; "
        f"{beyond} pixels lie above 5"
    )


def describe_convergence(variances: Sequence[float]) -> str:
    """Describe the first and the last relative change of the variance."""
    changes = relative_changes(variances)
    if not changes:
        return "no change"
    (first, before), (last, after) = changes[0], changes[-1]
    return f"{before:.2g} at iteration {first}, {after:.2g} at iteration {last}"


def setting_rows(run: SurveyRun) -> list[Row]:
    """Survey and settings."""
    plan, statistics = run.stored.plan, run.survey.statistics
    ring = "a ring: its columns close the circle" * plan.grid.ring
    return [
        Row("Survey", f"{run.survey.path}"),
        *(_origin_row(origin) for origin in plan.origins),
        *_file_rows(plan.files),
        Row("Map", plan.grid.extent.partition(", ring")[0].replace(" x ", " \N{MULTIPLICATION SIGN} "), ring),
        *([Row("Pixels used", statistics.used)] if statistics.used else []),
        *([Row("Point spread function", plan.psf)] if plan.psf else []),
        *([Row("Background", statistics.background)] if statistics.background else []),
        Row(
            "Pixel",
            f"{statistics.pixel_scale_deg:g}°",
            "the root of its solid angle" if statistics.sphere else "at the map's centre",
        ),
        Row("Counts", f"{statistics.counts_sum:.10g}", f"background expected: {statistics.background_sum:.10g}"),
        *([Row("Photon flux", "none", statistics.no_flux)] if statistics.no_flux else []),
        Row("Scales", ", ".join(f"{scale:g}" for scale in plan.kernels.scales), "pixels"),
        *(Row(name, f"{value}") for name, value in asdict(plan.settings).items() if value is not None),
    ]


def _origin_row(origin: Mapping[str, Any]) -> Row:
    plane, _, text = describe_origin(origin).partition(": ")
    return Row(f"{plane.capitalize()} from", text, f"digest {origin['digest'][:16]}...")


def _file_rows(files: Sequence[Mapping[str, str]]) -> list[Row]:
    """Files, the first of them if there are many."""
    rows = [Row(f"File, {each['what']}", each["file"], f"SHA-256 {each['sha256']}") for each in files[:_MOST_FILES]]
    n_more = len(files) - _MOST_FILES
    return [*rows, *([Row("Files", f"and {counted(n_more, 'file')} more: certificate.json")] if n_more > 0 else [])]


def duration(seconds: float) -> str:
    """A time, in its largest sensible unit."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
