"""Simulated counts of a field: noise of the run's own background, its sources, and others at known places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.assess.charts import Chart, Planes
from cwt_dask.assess.fields import Field
from cwt_dask.cwt.arrays import Floats, Ints
from cwt_dask.geometry.tiling import Box
from cwt_dask.measure.shapes import Shapes
from cwt_dask.results import SurveyRun
from cwt_dask.survey.store import Survey
from cwt_dask.tiles.shapes import point_spread_of, shapes_in

# Injected sources are so many times as bright as the noise beneath them, as likely between any two equal factors.
_FAINTEST, _BRIGHTEST = 1.5, 30.0
# So many widths of the point spread function are the side of a square with one of them.
_APART = 40.0
# Counts that are expected of a field that has no background.
_NOTHING = 1e-3
# Share of injected sources that are extended, where the run looks for such.
_EXTENDED = 0.25


@dataclass(frozen=True)
class Sources:
    """Sources of a sky, as columns."""

    places: Floats  # As of `Chart`.
    counts: Floats  # That are expected of each.
    width: Ints  # Index among the shapes of a point spread function: 0 is a point.

    def __len__(self) -> int:
        return len(self.counts)

    def joined(self, other: Sources) -> Sources:
        """These, and then others."""
        both = ((getattr(each, name) for each in (self, other)) for name in ("places", "counts", "width"))
        return Sources(*(np.concatenate([*pair]) for pair in both))

    def of(self, which: NDArray[Any]) -> Sources:
        """Some of them."""
        return Sources(self.places[which], self.counts[which], self.width[which])


@dataclass(frozen=True)
class Ground:
    """What the counts of a field are drawn of."""

    field: Field
    chart: Chart
    planes: Planes  # Of the survey, without its counts.
    shapes: Shapes
    node: Any  # Gives the nodes of shapes at places.

    @classmethod
    def of(cls, run: SurveyRun, chart: Chart, field: Field) -> Ground:
        """Read it.

        Parameters
        ----------
        run : SurveyRun
            The run that is assessed.
        chart, field
            Its chart, and a field of it.
        """
        # As it was ingested: a survey of the sphere by its own pixels, not by those of facets.
        survey, plan = Survey.open(run.survey.path), run.stored.plan
        names = [name for name in ("background", "exposure", "mask") if survey.array(name) is not None]
        planes = {name: survey.read(name, field.box) for name in names}
        spread = point_spread_of(run.files, plan, survey.header_text)
        window = chart.images(field.box)
        shapes, node_of = shapes_in(spread, plan, window)

        def node(places: Floats) -> Ints:
            y, x = (np.rint(np.nan_to_num(axis)).astype(np.int64) for axis in chart.image_pixels(places))
            y, x = np.clip(y, window.y0, window.y1 - 1), np.clip(x, window.x0, window.x1 - 1)
            return np.asarray(node_of(y - window.y0, x - window.x0))

        return cls(field, chart, planes, shapes, node)

    @property
    def is_empty(self) -> bool:
        """Whether there is no sky: all is masked, or nothing is expected anywhere, as beyond an exposure."""
        return float(np.sum(self.planes["background"][self.planes["mask"] > 0], dtype=np.float64)) <= _NOTHING

    def at(self, name: str, places: Floats) -> Floats:
        """A plane at places; 0 beyond the field, and where the survey has none."""
        found = np.zeros(len(places))
        if name in self.planes:
            rows, columns = self.chart.pixels(places)
            here = inside(self.field.box, rows, columns)
            box = self.field.box
            found[here] = self.planes[name][rows[here] - box.y0, columns[here] - box.x0]
        return found

    def sigma(self, places: Floats, width: Ints | int) -> Floats:
        """Widths in pixels of sources of a width at places."""
        return np.asarray(self.shapes.sigma[self.node(places) * len(self.shapes.extensions) + width])

    def inject(self, rng: np.random.Generator) -> Sources:
        """Draw sources at random places of the field, over the noise that is there."""
        area, width = self.field.box.area, float(self.shapes.sigma[0])
        n = max(1, round(area / (_APART * width) ** 2))
        places = self.chart.drawn(self.field.box, n, rng)
        places = places[self.at("mask", places) > 0]
        widths = np.zeros(len(places), np.int64)
        if len(self.shapes.tried):
            wide = rng.random(len(places)) < _EXTENDED
            widths[wide] = rng.integers(1, len(self.shapes.extensions), wide.sum())
        noise = 4 * np.pi * self.sigma(places, widths) ** 2 * self.at("background", places)
        over = np.exp(rng.uniform(np.log(_FAINTEST), np.log(_BRIGHTEST), len(places)))
        # So many counts that they are `over` times the root of themselves and the noise.
        return Sources(places, over**2 / 2 + over * np.sqrt(over**2 / 4 + noise), widths)

    def draw(self, sources: Sources, rng: np.random.Generator) -> NDArray[np.int32]:
        """Draw the counts (y, x) of the field, 0 where it is masked."""
        box, used = self.field.box, self.planes["mask"] > 0
        expected = np.where(used, self.planes["background"], 0).astype(np.float64)
        node = self.node(sources.places)
        for i, place in enumerate(sources.places):
            shape = int(node[i]) * len(self.shapes.extensions) + int(sources.width[i])
            near = self.chart.near(place, int(self.shapes.half[shape]))
            here = inside(box, near.rows, near.columns)
            shares = self.shapes.shares(shape, near.dy[here], near.dx[here])
            np.add.at(expected, (near.rows[here] - box.y0, near.columns[here] - box.x0), sources.counts[i] * shares)
        return rng.poisson(np.where(used, expected, 0)).astype(np.int32)


def inside(box: Box, rows: Ints, columns: Ints) -> NDArray[np.bool_]:
    """Which pixels lie in a box.

    Parameters
    ----------
    box : Box
        Of pixels.
    rows, columns : ndarray
        Of others.
    """
    return np.asarray((box.y0 <= rows) & (rows < box.y1) & (box.x0 <= columns) & (columns < box.x1))
