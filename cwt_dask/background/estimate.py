"""An estimate from its first round to its error: passes over the tiles, one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice, pairwise
from typing import Any

from cwt_dask.background.layers import COUNTS, DRAWN, ESTIMATE, FIRST, SECOND
from cwt_dask.background.passes import FEW_COUNTS, Departure, Passes, Surroundings, relative_error
from cwt_dask.background.recipe import IN_ROUNDS, LAST, MOST_ROUNDS, Smoothing
from cwt_dask.config.validation import counted
from cwt_dask.errors import RunError, SurveyError
from cwt_dask.runtime.executors import Executor
from cwt_dask.runtime.progress import Reporter
from cwt_dask.runtime.stages import OF_THE_MACHINE, TRIES

# What every page says of such a background.
ESTIMATED = "estimated background"
# Of an acceptance that is that of the mask alone.
FLAT = "flat in the mask"
# So many skies are drawn that they have about so many parts that know nothing of each other, within bounds.
_PARTS, _MOST_SKIES = 100, 16
# Tiles from which on each pass shows its progress.
_MANY = 10
# Share of the pixels that are excluded above which there is structure, not sources.
_MOST_EXCLUDED = 0.15


@dataclass(frozen=True)
class Estimate:
    """What is known of an estimated background.

    Parameters
    ----------
    scale : float
        Of the smoothing, in pixels.
    acceptance : str
        What the background goes with.
    rounds : int
        Rounds that were made.
    ended : bool
        Whether in the last of them no pixel changed.
    n_used : int
        Pixels with acceptance that are used.
    n_excluded : int
        Pixels of them that are excluded as sources.
    error : float
        Relative error of the background by noise: root mean square over the pixels used, by simulation.
    least : float
        Least number of counts expected within two scales of a pixel used.
    n_few : int
        Pixels used with fewer than 100 of these.

    Examples
    --------
    >>> from cwt_dask.background.estimate import Estimate
    >>> Estimate(12.0, "flat in the mask", 4, True, 20000, 250, 0.02, 900.0, 0).warnings
    ()
    """

    scale: float
    acceptance: str
    rounds: int
    ended: bool
    n_used: int
    n_excluded: int
    error: float
    least: float
    n_few: int

    def describe(self, pixel_scale: float | None = None) -> str:
        """Describe it in a line.

        Parameters
        ----------
        pixel_scale : float, optional
            Size of a pixel in degrees.

        Returns
        -------
        str
            Scale, acceptance, rounds, share of pixels excluded, and relative error.

        Examples
        --------
        >>> from cwt_dask.background.estimate import Estimate
        >>> Estimate(12.0, "flat in the mask", 4, True, 20000, 250, 0.02, 900.0, 0).describe(0.1)[:60]
        'estimated background: smoothed at 12 pixels (1.2 deg), accep'
        """
        degrees = f" ({self.scale * pixel_scale:.4g} deg)" if pixel_scale else ""
        end = "" if self.ended else ", not ended"
        return (
            f"{ESTIMATED}: smoothed at {self.scale:.4g} pixels{degrees}, acceptance {self.acceptance}, "
            f"{counted(self.rounds, 'round')}{end}, {self.n_excluded / self.n_used:.2%} excluded as sources, relative "
            f"error {self.error:.2g}"
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know."""
        found = {
            f"sources of the {ESTIMATED} still grew in round {self.rounds}, the last: there is structure that the "
            "scale does not follow; take a smaller one": not self.ended,
            f"{self.n_excluded / self.n_used:.0%} of the pixels are excluded from the {ESTIMATED} as sources: there is "
            "structure that the scale does not follow; take a smaller one": self.n_excluded
            > _MOST_EXCLUDED * self.n_used,
            f"few counts: within two scales of {counted(self.n_few, 'pixel')} of {self.n_used} fewer than "
            f"{FEW_COUNTS:g} counts are expected, {self.least:.2g} at the least: the {ESTIMATED} is uncertain there; "
            "take a larger scale": self.n_few,
        }
        return tuple(text for text, applies in found.items() if applies)


def estimate(passes: Passes, acceptance: str, executor: Executor, progress: Reporter) -> Estimate:
    """Estimate the background of a map, and its error; the layer of it is left in place.

    Parameters
    ----------
    passes : Passes
        Layers, tiles and recipe.
    acceptance : str
        What the background goes with, for messages.
    executor : Executor
        Runs tasks.
    progress : Reporter
        Receives progress.

    Raises
    ------
    SurveyError
        If nothing can be estimated from this map.
    RunError
        If a task failed.
    InterruptedRun
        If a stop was requested.
    """
    scale, reach = passes.recipe.scale, passes.recipe.reach

    def over_tiles(function: Callable[[int], Any], stage: str) -> list[Any]:
        return _over_tiles(function, passes.grid.n_tiles, stage, executor, progress)

    def smooth(counts: str, smoothing: Smoothing, result: str, stage: str) -> list[Surroundings]:
        found = over_tiles(partial(passes.smooth, counts, smoothing.width), stage)
        layers = (*islice(cycle((FIRST, SECOND)), smoothing.times - 1), result)
        for before, after in pairwise(layers):
            over_tiles(partial(passes.smooth_again, counts, smoothing.width, before, after), stage)
        return found

    def smooth_counts(smoothing: Smoothing, stage: str) -> int:
        found = smooth(COUNTS, smoothing, ESTIMATE, stage)
        n_used = sum(each.n_used for each in found)
        if not n_used:
            if acceptance == FLAT:
                raise SurveyError("no pixel is used: all are masked, or NaN in counts: correct the mask")
            raise SurveyError(f"no pixel that is used has acceptance ({acceptance} is 0 there): give another exposure")
        if not any(each.has_counts for each in found):
            raise SurveyError(
                "counts are 0 on all pixels that are used: no background can be estimated from them; check that this "
                "is the counts map"
            )
        if n_unknown := sum(each.n_unknown for each in found):
            raise SurveyError(
                f"{n_unknown} of {n_used} pixels have none outside of sources within {reach} pixels, four scales: "
                "take another scale, mask them, or give a background"
            )
        return n_used

    n_used, n_excluded, rounds, ended = 0, 0, 0, False
    while not ended and rounds < MOST_ROUNDS:
        rounds += 1
        n_used = smooth_counts(IN_ROUNDS, f"background, round {rounds}")
        before, n_excluded = n_excluded, sum(over_tiles(passes.exclude, f"sources, round {rounds}"))
        ended = n_excluded == before
        progress.message(f"background, round {rounds}: {n_excluded / n_used:.3%} of the pixels excluded as sources")
    smooth_counts(LAST, "background")
    levels = over_tiles(passes.level, "counts within two scales")
    departures: list[Departure] = []
    n_skies = min(max(math.ceil(_PARTS * passes.recipe.area / n_used), 1), _MOST_SKIES)
    for sky in range(n_skies):
        stage = f"error, sky {sky + 1} of {n_skies}"
        over_tiles(partial(passes.draw, sky), stage)
        smooth(DRAWN, LAST, SECOND, stage)
        departures += over_tiles(passes.depart, stage)
    return Estimate(
        scale=scale,
        acceptance=acceptance,
        rounds=rounds,
        ended=ended,
        n_used=n_used,
        n_excluded=n_excluded,
        error=relative_error(departures),
        least=min(level.least for level in levels),
        n_few=sum(level.n_few for level in levels),
    )


def _over_tiles(
    function: Callable[[int], Any], n_tiles: int, stage: str, executor: Executor, progress: Reporter
) -> list[Any]:
    """Values of a function of all tiles, in their order; errors of machines are tried again."""
    values: dict[int, Any] = {}
    wanted = list(range(n_tiles))
    for tries_left in reversed(range(TRIES)):
        outcomes, again = executor.map(function, wanted), []
        for outcome in progress.track(outcomes, stage, len(wanted)) if n_tiles >= _MANY else outcomes:
            error = outcome.error
            if error is None:
                values[outcome.item] = outcome.value
            elif tries_left and isinstance(error, OF_THE_MACHINE):
                again.append(outcome.item)
            else:
                raise RunError(f"{stage}: tile {outcome.item} failed: {type(error).__name__}: {error}") from error
        if len(values) + len(again) < n_tiles:
            executor.stop.check()
        wanted = again
        if not wanted:
            break
    return [values[tile] for tile in range(n_tiles)]
