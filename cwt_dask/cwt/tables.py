"""Tables that sum an image or a cube up in numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import MaskedColumn, Table

from cwt_dask.cwt.image import SkyImage
from cwt_dask.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from cwt_dask.cwt.state import Field


class InfoTables(ABC):
    """Tables of what holds images and cubes of a field."""

    field: Field

    @abstractmethod
    def images(self) -> dict[str, SkyImage]:
        """Name all images."""

    @abstractmethod
    def cubes(self) -> dict[str, SkyImage]:
        """Name all cubes."""

    def image_info(self, name: str) -> Table:
        """Sum one image up in numbers.

        Parameters
        ----------
        name : str
            One of `images`.

        Returns
        -------
        astropy.table.Table
            Columns Metrics and Source.

        Raises
        ------
        InputError
            If no image has this name.
        """
        return metrics_table(summary(_named(self.images(), name), self.field.valid))

    def cube_info(self, name: str, per_scale: bool = False) -> Table:
        """Sum one cube up in numbers.

        Parameters
        ----------
        name : str
            One of `cubes`.
        per_scale : bool, optional
            Each scale by itself.

        Returns
        -------
        astropy.table.Table
            Columns Metrics and Source; with `per_scale` also Scale power, counted from 1.

        Raises
        ------
        InputError
            If no cube has this name.
        """
        cube = _named(self.cubes(), name)
        if not per_scale:
            return metrics_table(summary(cube, self.field.valid))
        planes = [SkyImage(plane, cube.wcs, name) for plane in cube.data]
        return scale_table([summary(plane, self.field.valid) for plane in planes])

    @property
    def info_table(self) -> Table:
        """Numbers of all images and cubes, a row each."""
        everything = [*self.images().values(), *self.cubes().values()]
        return overview_table([summary(image, self.field.valid) for image in everything])


def _named(images: dict[str, SkyImage], name: str) -> SkyImage:
    if name not in images:
        raise InputError(f"there is no {name!r}: choose one of {', '.join(images)}")
    return images[name]


def summary(image: SkyImage, valid: NDArray[np.bool_]) -> dict[str, Any]:
    """Numbers of an image or cube over its `valid` (y, x) pixels, NaN ones left out; NaN where no pixel is left."""
    used = image.data[..., valid]
    used = used[~np.isnan(used)]
    if not used.size:
        used = np.array([np.nan])
    return {
        "Name": image.name,
        "Shape": f"{image.data.ndim}D {'image' if image.data.ndim == 2 else 'cube'}",
        "Variance": used.var(),
        "Mean": used.mean(),
        "Max value": used.max(),
        "Min value": used.min(),
        "Sum values": used.sum(),
    }


def metrics_table(metrics: Mapping[str, Any]) -> Table:
    """One `summary`, a row a number: columns Metrics (str) and Source (object: str or number)."""
    return Table([list(metrics), _objects(metrics.values())], names=["Metrics", "Source"])


def scale_table(metrics_by_scale: list[dict[str, Any]]) -> Table:
    """Summaries one below the other; column Scale power counts from 1 and is masked on all but a scale's first row."""
    names = [name for metrics in metrics_by_scale for name in metrics]
    values = [value for metrics in metrics_by_scale for value in metrics.values()]
    rows = len(metrics_by_scale[0])
    power = np.arange(len(names)) // rows + 1
    first = np.arange(len(names)) % rows == 0
    return Table(
        [MaskedColumn(power, mask=~first), names, _objects(values)], names=["Scale power", "Metrics", "Source"]
    )


def overview_table(summaries: list[dict[str, Any]]) -> Table:
    """One row an image or cube, one column a number (float64)."""
    table = Table(rows=summaries)
    for name in table.colnames[2:]:
        table[name] = table[name].astype(np.float64)
    return table


def _objects(values: Iterable[Any]) -> NDArray[np.object_]:
    """Strings and numbers in one column, each as it is."""
    return np.array(list(values), dtype=object)


_STYLE = ' style="text-align: right; padding-left: 1em"'


def html_overview(title: str, words: str, table: Table) -> str:
    """HTML of a title, a line of words and a table; numbers with six digits."""
    head = "".join(f"<th{_STYLE}>{escape(name)}</th>" for name in table.colnames)
    rows = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in table.iterrows())
    return (
        f"<div><strong>{escape(title)}</strong><br>{escape(words)}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cell(value: Any) -> str:
    if isinstance(value, int | float | np.number):
        return f"<td{_STYLE}>{value:.6g}</td>"
    return f'<td style="text-align: left">{escape(str(value))}</td>'
