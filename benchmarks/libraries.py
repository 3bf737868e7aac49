"""Libraries that could do the work of a step: FFTs, element-wise work, labelling; one thread.

The package depends on none of ducc0, pyfftw, mkl_fft, numexpr and connected-components-3d: those that are not installed
are left out and named.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import elementwise
import ffts
import labelling
from common import show

if TYPE_CHECKING:
    from pathlib import Path

# Distributions by the modules they hold.
OPTIONAL = {
    "ducc0": "ducc0",
    "pyfftw": "pyfftw",
    "mkl_fft": "mkl_fft",
    "numexpr": "numexpr",
    "cc3d": "connected-components-3d",
}


def tables(quick: bool, _: Path) -> str:
    """All three comparisons."""
    missing = [package for module, package in OPTIONAL.items() if not find_spec(module)]
    note = f"Not installed, so left out: {', '.join(missing)} (`pip install {' '.join(missing)}`).\n" if missing else ""
    parts = (
        ffts.tables((128, 150), 2) if quick else ffts.tables(),
        elementwise.tables(128, 2) if quick else elementwise.tables(),
        labelling.tables(128, 2) if quick else labelling.tables(),
    )
    return "\n".join((*parts, *([note] if note else [])))


if __name__ == "__main__":
    show(tables, __doc__)
