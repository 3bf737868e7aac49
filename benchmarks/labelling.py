"""Numbering islands of pixels above a threshold: ours, SciPy's, connected-components-3d."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage
from common import interleaved, markdown, say

from cwt_dask.cwt.loops import label

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 2048
REPETITIONS = 9
SHARES = (0.02, 0.1)


def ours(mask: np.ndarray) -> int:
    """Union-find over the pixels that are set, which have to be found first."""
    return int(label(np.flatnonzero(mask), mask.shape[1], False)[1])


def by_scipy(mask: np.ndarray) -> int:
    """scipy.ndimage.label."""
    return int(scipy.ndimage.label(mask)[1])


def by_cc3d(mask: np.ndarray) -> int:
    """connected-components-3d."""
    return int(import_module("cc3d").connected_components(mask, connectivity=4, return_N=True)[1])


WAYS = {
    "own, compiled (the choice)": ("numba", ours),
    "scipy.ndimage.label": ("scipy", by_scipy),
    "connected-components-3d": ("cc3d", by_cc3d),
}
INSTALLED: dict[str, Callable[[np.ndarray], int]] = {
    name: way for name, (module, way) in WAYS.items() if find_spec(module)
}


def islands(size: int, share: float) -> np.ndarray:
    """A mask (y, x) of smooth islands on a share of the pixels."""
    noise = np.random.default_rng(0).normal(size=(size, size))
    smooth = scipy.ndimage.gaussian_filter(noise, 3.0)
    return smooth > np.quantile(smooth, 1 - share)


def tables(size: int = SIZE, repetitions: int = REPETITIONS) -> str:
    """Nanoseconds a pixel of the map."""
    costs: dict[str, list[str]] = {name: [] for name in INSTALLED}
    for share in SHARES:
        say(f"labelling {size} x {size} pixels")
        mask = islands(size, share)
        for name, time in interleaved({n: partial(way, mask) for n, way in INSTALLED.items()}, repetitions).items():
            costs[name].append(f"{time / size**2 * 1e9:.2f}")
    head = [f"labelling, {size} x {size}: ns a pixel of the map", *(f"{share:.0%} set" for share in SHARES)]
    return markdown(head, [(name, *columns) for name, columns in costs.items()])
