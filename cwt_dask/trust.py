"""Trust flags: which pixels and sources deserve a second look."""

from __future__ import annotations

from enum import IntFlag


class Trust(IntFlag):
    """Why a pixel deserves a second look: the values of `trust` in `maps.zarr`.

    Examples
    --------
    >>> from cwt_dask.trust import Trust
    >>> Trust(5)
    <Trust.MAP_EDGE|ERROR_UNDEFINED: 5>
    >>> Trust.SEAM in Trust(5)
    False
    """

    MAP_EDGE = 1
    """Within the kernels' reach of the map's edge: outside counts as zero."""
    MASKED_NEIGHBOUR = 2
    """Within the kernels' reach of a masked pixel, which counts as zero."""
    ERROR_UNDEFINED = 4
    """The expected error was zero to rounding in the first iteration, or later undefined where something might have
    been detected: nothing could be then."""
    SEAM = 8
    """Within the kernels' reach of a seam at which two tiles differ by more than is promised."""
    OPEN_ISLAND = 16
    """Part of an island that tiles did not decide alike."""


class SourceFlag(IntFlag):
    """Why a source deserves a second look: the values of `flags` in the catalogue."""

    MAP_EDGE = Trust.MAP_EDGE
    """The peak lies within the kernels' reach of the map's edge: outside counts as zero."""
    MASKED_NEIGHBOUR = Trust.MASKED_NEIGHBOUR
    """The peak lies within the kernels' reach of a masked pixel, which counts as zero."""
    ERROR_UNDEFINED = Trust.ERROR_UNDEFINED
    """The expected error was zero or undefined at the peak, as of `Trust`."""
    SEAM = Trust.SEAM
    """The peak lies within the kernels' reach of a seam at which two tiles differ by more than is promised."""
    OPEN_ISLAND = Trust.OPEN_ISLAND
    """The peak belongs to an island that tiles did not decide alike."""
    CROSSES_SEAM = 32
    """Its island lies in the cores of several tiles, which is no fault; the only flag that depends on the tiles."""
    BLIND_NEARBY = 64
    """Within the kernels' reach of the peak the expected error was undefined: near a very bright source (10^5 counts)
    such pixels form a ring, and what is found around them may not be there."""
    BLENDED = 128
    """Its disc overlaps another source's: counts that lie in both are counted for both."""
    NO_CENTROID = 256
    """No centroid was found near the peak, or masked pixels or the map's edge are so near that it would be biased: the
    position is that of the peak's pixel."""
    LATE = 512
    """No maximum of the calibrated significance S is near: only iterations from 2 on have found it, from which every
    ghost comes."""
    BESIDE = 1024
    """Found with all other sources in the background, beside brighter ones: it is as real as the point spread function
    is right."""
    NOT_SETTLED = 2048
    """The fit would move the source farther from its candidate than it may, or its position has no error: what the row
    holds are counts of something else as well, or of a shape that is no point."""


HARMLESS_FLAGS = SourceFlag.MAP_EDGE | SourceFlag.MASKED_NEIGHBOUR | SourceFlag.CROSSES_SEAM
"""Flags of rows that need no second look: the fit knows which pixels are not seen (docs/catalogue.md)."""
