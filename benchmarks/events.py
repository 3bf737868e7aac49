"""Event lists binned onto small and large maps: events a second, and peak memory, whatever the number of events."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits
from common import MIB, apart, markdown, say, show

from cwt_dask.events import ingest_events
from cwt_dask.storage.provenance import peak_memory

if TYPE_CHECKING:
    from pathlib import Path

N_LISTS, AT_ONCE = 8, 2**18
# Some of the columns of Fermi's event lists.
ROW = np.dtype([("ENERGY", ">f4"), ("RA", ">f4"), ("DEC", ">f4"), ("L", ">f4"), ("B", ">f4"), ("TIME", ">f8")])
UNITS = {"ENERGY": "MeV", "TIME": "s"}
PIXELS = (1.0, 0.1, 0.01)


def write_list(path: Path, n_rows: int, seed: int) -> None:
    """Write events all over the sky, some at a time."""
    rng = np.random.default_rng(seed)
    hdu = fits.BinTableHDU(np.zeros(0, ROW), name="EVENTS")
    hdu.header["NAXIS2"] = n_rows
    for number, name in enumerate(ROW.names, 1):
        hdu.header[f"TUNIT{number}"] = UNITS.get(name, "deg")
    with path.open("wb") as file:
        file.write(fits.PrimaryHDU().header.tostring().encode())
        file.write(hdu.header.tostring().encode())
        for start in range(0, n_rows, AT_ONCE):
            rows = np.zeros(min(AT_ONCE, n_rows - start), ROW)
            rows["RA"] = rng.uniform(0, 360, len(rows))
            rows["DEC"] = np.degrees(np.arcsin(rng.uniform(-1, 1, len(rows))))
            rows["ENERGY"] = 100 / rng.uniform(1e-4, 1, len(rows))
            file.write(rows.tobytes())
        file.write(bytes(-n_rows * ROW.itemsize % 2880))


def measure(lists: list[Path], out: Path, pixel: float) -> tuple[float, int, int]:
    """Wall time, peak memory, and events on the map."""
    started = time.perf_counter()
    made = ingest_events(lists, out, center=(0, 0), size=(360, 180), pixel=pixel)
    return time.perf_counter() - started, peak_memory(), made.tally.n_binned


def tables(quick: bool, scratch: Path, events: int) -> str:
    """A row a number of events and a map of the whole sky."""
    rows = []
    for n_events in (10**4,) if quick else (events // 10, events):
        folder = scratch / "events"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        say(f"{n_events} events")
        lists = [folder / f"{number}.fits" for number in range(N_LISTS)]
        for number, path in enumerate(lists):
            write_list(path, n_events // N_LISTS, number)
        for pixel in PIXELS[:1] if quick else PIXELS:
            out = folder / "counts.fits"
            seconds, peak, n_binned = apart(measure, lists, out, pixel)
            out.unlink()
            size = f"{180 / pixel:.0f} x {360 / pixel:.0f}"
            rows.append(
                (f"{n_binned:.0e}", size, f"{seconds:.1f}", f"{n_binned / seconds / 1e6:.2f}", f"{peak / MIB:.0f}")
            )
        shutil.rmtree(folder)
    return markdown(["events", "map", "wall time, s", "million events a second", "peak memory, MiB"], rows)


if __name__ == "__main__":
    show(tables, __doc__, events=10**8)
