"""Tables that sum an image or a cube up in numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any

import numpy as np
from astropy.table import MaskedColumn, Table
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import numpys_own
from cwt_dask.cwt.image import SkyImage
from cwt_dask.cwt.state import Field
from cwt_dask.errors import InputError


class InfoTables:
    """Tables of numbers over the pixels of images and cubes that take part, NaN left out."""

    field: Field
    # By name.
    images: Callable[[], dict[str, SkyImage]]
    cubes: Callable[[], dict[str, SkyImage]]

    @numpys_own
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

        Examples
        --------
        >>> import numpy as np
        >>> from cwt_dask import CWTData
        >>> data = CWTData(np.full((2, 3), 4), np.ones((2, 3)), n_scale=2)
        >>> print(data.image_info("counts")[-2:])
         Metrics   Source
        ---------- ------
         Min value    4.0
        Sum values   24.0
        """
        return _metrics_table(self._metrics(_named(self.images(), name)))

    @numpys_own
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
            return _metrics_table(self._metrics(cube))
        by_scale = [self._metrics(SkyImage(image, cube.wcs, name)) for image in cube.data]
        names = [name for metrics in by_scale for name in metrics]
        row = np.arange(len(names)) % len(by_scale[0])
        # The scale is shown in the first row of its own.
        power = MaskedColumn(np.arange(len(names)) // len(by_scale[0]) + 1, mask=row > 0)
        values = _objects(value for metrics in by_scale for value in metrics.values())
        return Table([power, names, values], names=["Scale power", "Metrics", "Source"])

    @property
    @numpys_own
    def info_table(self) -> Table:
        """Numbers of all images and cubes, a row each."""
        table = Table(rows=[self._metrics(image) for image in (*self.images().values(), *self.cubes().values())])
        for name in table.colnames[2:]:
            table[name] = table[name].astype(np.float64)
        return table

    def _metrics(self, image: SkyImage) -> dict[str, Any]:
        """Numbers of an image or cube; NaN where no pixel is left."""
        used = image.data[..., self.field.valid]
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


def _named(images: dict[str, SkyImage], name: str) -> SkyImage:
    if name not in images:
        raise InputError(f"there is no {name!r}: choose one of {', '.join(images)}")
    return images[name]


def _metrics_table(metrics: Mapping[str, Any]) -> Table:
    return Table([list(metrics), _objects(metrics.values())], names=["Metrics", "Source"])


def _objects(values: Iterable[Any]) -> NDArray[np.object_]:
    """Strings and numbers in one column, each as it is."""
    return np.array(list(values), dtype=object)


_STYLE = ' style="text-align: right; padding-left: 1em"'


def html_overview(title: str, line: str, table: Table) -> str:
    """HTML for a notebook.

    Parameters
    ----------
    title, line : str
        Heading, and the line below it, as plain text.
    table : Table
        Its numbers are shown with six digits.
    """
    head = "".join(f"<th{_STYLE}>{escape(name)}</th>" for name in table.colnames)
    rows = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in table.iterrows())
    return (
        f"<div><strong>{escape(title)}</strong><br>{escape(line)}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cell(value: Any) -> str:
    if isinstance(value, int | float | np.number):
        return f"<td{_STYLE}>{value:.6g}</td>"
    return f'<td style="text-align: left">{escape(str(value))}</td>'
