"""One iteration of a box: the plain implementation, ours, and the FFTs that it cannot do without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common import KERNELS, THRESHOLD, interleaved, markdown, say, show, sky
from ffts import numpy_in_place
from plain import Maps
from plain import iterate as plain_iterate

from cwt_dask.cwt.spectra import kernel_spectra
from cwt_dask.cwt.state import Criteria, Field, State, rounding_level
from cwt_dask.cwt.step import step
from cwt_dask.cwt.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

SIZE = 2048
REPETITIONS = 9


class Ours:
    """Our iteration on a box, all of whose pixels take part: a tile in the middle of a map."""

    def __init__(self, counts: np.ndarray, background: np.ndarray) -> None:
        field = Field(counts, background, counts >= 0)
        criteria = Criteria(THRESHOLD, None, True, rounding_level(float(counts.max())))
        self.workspace = Workspace(field, kernel_spectra(KERNELS, counts.shape), criteria)
        self.state = State.start(KERNELS.n_scale, counts.shape)

    def iterate(self) -> None:
        """Go on by one iteration."""
        self.state = step(self.state, self.workspace)

    def moments(self) -> None:
        """What the stopping rule asks for after each."""
        self.workspace.residual_moments(self.state)


class Plain:
    """The plain iteration."""

    def __init__(self, counts: np.ndarray, background: np.ndarray) -> None:
        self.images = counts, background
        self.maps = Maps.start(KERNELS.n_scale, counts.shape)
        self.base = [KERNELS.kern_base[scale] for scale in range(KERNELS.n_scale)]

    def iterate(self) -> None:
        """Go on by one iteration."""
        self.maps = plain_iterate(*self.images, self.maps, self.base, KERNELS.kern_approx, THRESHOLD)


def measure(size: int, repetitions: int) -> dict[str, float]:
    """Nanoseconds a pixel."""
    counts, background = sky(size)
    say(f"iterations of {size} x {size} pixels")
    plain, ours, transforms = Plain(counts, background), Ours(counts, background), numpy_in_place(counts)
    functions = {"plain": plain.iterate, "step": ours.iterate, "ffts": transforms.seven, "moments": ours.moments}
    return {name: time / size**2 * 1e9 for name, time in interleaved(functions, repetitions).items()}


def tables(quick: bool, _: Path) -> str:
    """What each costs, and the ratios."""
    size, repetitions = (128, 2) if quick else (SIZE, REPETITIONS)
    cost = measure(size, repetitions)
    with_moments = cost["step"] + cost["moments"]
    names = {
        "plain": "plain SciPy iteration",
        "step": "our step",
        "moments": "the residual's moments",
        "ffts": "seven real FFTs",
    }
    ratios = {
        "plain / step": cost["plain"] / cost["step"],
        "step / seven FFTs": cost["step"] / cost["ffts"],
        "(step + moments) / seven FFTs": with_moments / cost["ffts"],
        "plain / (step + moments)": cost["plain"] / with_moments,
    }
    return "\n".join(
        (
            markdown(
                [f"{size} x {size} pixels, 2 scales", "ns a pixel"], [(n, f"{cost[k]:.1f}") for k, n in names.items()]
            ),
            markdown(["ratio", ""], [(name, f"{ratio:.2f}") for name, ratio in ratios.items()]),
        )
    )


if __name__ == "__main__":
    show(tables, __doc__)
