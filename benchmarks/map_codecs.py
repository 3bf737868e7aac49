"""Codecs for the maps of a run: time to encode and to decode, and what is left of them.

(Not `codecs`, which is a module of Python's own.)
"""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numcodecs
import numpy as np
from common import KERNELS, THRESHOLD, interleaved, markdown, say, show, survey
from numcodecs import Blosc, Zstd

from cwt_dask import run_survey

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 2048
REPETITIONS = 5
PLANES = ("counts", "background")
MAPS = ("model", "approx", "residual", "significance", "support", "joined", "best_scale")
CODECS = {
    "none": None,
    "lz4 1": Blosc("lz4", 1, Blosc.NOSHUFFLE),
    "lz4 5, shuffle": Blosc("lz4", 5, Blosc.SHUFFLE),
    "lz4 5, bitshuffle": Blosc("lz4", 5, Blosc.BITSHUFFLE),
    "zstd 1, shuffle": Blosc("zstd", 1, Blosc.SHUFFLE),
    "zstd 5, shuffle": Blosc("zstd", 5, Blosc.SHUFFLE),
    "zstd 0, no Blosc": Zstd(level=0),
}


class Cost(NamedTuple):
    """Nanoseconds to encode and to decode, and bytes that are stored, each by pixel of the map."""

    encode: float
    decode: float
    stored: float


def arrays(scratch: Path, size: int) -> dict[str, np.ndarray]:
    """Arrays of a run, (y, x) or (scale, y, x), and of its survey, as they are stored."""
    options = {"significance_threshold": THRESHOLD, "tile_size": size, "workers": 0, "fits": "no"}
    with TemporaryDirectory(dir=scratch) as directory:
        run = run_survey(survey(scratch, size), f"{directory}/run", kernels=KERNELS, **options)
        maps = {name: run.map(name) for name in MAPS} | {name: getattr(run.survey, name) for name in PLANES}
        return {name: np.ascontiguousarray(lazy.compute()) for name, lazy in maps.items()}


def measure(pixels: np.ndarray, codec: numcodecs.abc.Codec | None, repetitions: int) -> Cost:
    """Cost of one array; without a codec, of copying it."""
    area = pixels.shape[-2] * pixels.shape[-1]
    room = np.empty_like(pixels)
    encoded = codec.encode(pixels) if codec else pixels.tobytes()

    def encode() -> None:
        if codec:
            codec.encode(pixels)
        else:
            room[...] = pixels

    def decode() -> None:
        if codec:
            codec.decode(encoded, out=room)
        else:
            room[...] = pixels

    times = interleaved({"encode": encode, "decode": decode}, repetitions)
    return Cost(times["encode"] / area * 1e9, times["decode"] / area * 1e9, len(encoded) / area)


def tables(quick: bool, scratch: Path) -> str:
    """A row an array, a column a codec."""
    size, repetitions = (256, 1) if quick else (SIZE, REPETITIONS)
    # Threads of its own would hide what a codec costs.
    numcodecs.blosc.set_nthreads(1)
    rows = []
    for name, pixels in arrays(scratch, size).items():
        say(f"codecs for {name}")
        costs = (measure(pixels, codec, repetitions) for codec in CODECS.values())
        cells = (f"{cost.encode:.1f} / {cost.decode:.1f} / {cost.stored:.2f}" for cost in costs)
        rows.append((name, f"{pixels.dtype}{f' x {len(pixels)}' if pixels.ndim == 3 else ''}", *cells))
    return markdown(["ns to encode / ns to decode / bytes, a pixel", "", *CODECS], rows)


if __name__ == "__main__":
    show(tables, __doc__)
