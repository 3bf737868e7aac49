"""FITS files: opening them, and finding the HDU that holds a plane."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

from cwt_dask.config.validation import shown
from cwt_dask.errors import SurveyError
from cwt_dask.storage.paths import backend_of
from cwt_dask.survey.headers import check_headers, damage_named
from cwt_dask.survey.source import HDU_OR_BAND, PlaneSource

_GZIP_MAGIC = b"\x1f\x8b"
_FITS_MAGIC = b"SIMPLE"
_BLOCK = 2**20


@dataclass(eq=False)
class FitsFile:
    """An open FITS file."""

    path: Path
    hdus: Any  # astropy's HDUList.
    gzipped: bool  # Whether the whole file is compressed with gzip.
    version: Any  # When it was opened.

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[FitsFile]:
        """Open a file and read the headers of all its HDUs.

        Raises SurveyError if it cannot be read, is empty, no FITS file, or shorter than its headers say.
        """
        opened, gzipped = _version(path), _is_gzipped(path)
        with ExitStack() as stack:
            hdus = stack.enter_context(_read_headers(path, _open_bytes(path, gzipped, stack)))
            yield cls(path, hdus, gzipped, opened)

    def new_handle(self, stack: ExitStack) -> Any:
        """Open the file once more, unpacked, for the length of `stack`."""
        return _open_bytes(self.path, self.gzipped, stack)

    def refuse_changed(self) -> None:
        """Raise SurveyError if the file was written to, or replaced, since it was opened: it may hold two versions."""
        if _version(self.path) != self.version:
            raise SurveyError(f"{self.path} changed while it was read: wait until it is written, and start again")

    def find(self, plane: PlaneSource) -> Any:
        """Find the HDU of a plane; None where there is none and none is required.

        Raises SurveyError if there is none, or several images have its name.
        """
        with damage_named(f"{self.path} is damaged"):
            hdu = self._named(plane)
        if hdu is not None or not plane.required:
            return hdu
        present = ", ".join(f"{number} {hdu.name or '(no name)'}" for number, hdu in enumerate(self.hdus))
        raise SurveyError(
            f"{self.path} has no HDU {shown(plane.hdu)}; it has {present}: name the one to use, such as --counts-hdu 0"
        )

    def _named(self, plane: PlaneSource) -> Any:
        if HDU_OR_BAND.fullmatch(plane.hdu):
            return self.hdus[int(plane.hdu)] if int(plane.hdu) < len(self.hdus) else None
        named = [hdu for hdu in self.hdus if hdu.name.upper() == plane.hdu.upper()]
        images = [hdu for hdu in self.hdus if hdu.is_image and getattr(hdu, "shape", ())]
        # A name may be given twice, to a table and an image.
        candidates = [hdu for hdu in images if hdu in named] or named
        if len(candidates) > 1:
            numbers = [str(number) for number, hdu in enumerate(self.hdus) if hdu in candidates]
            raise SurveyError(
                f"{self.path} has {len(candidates)} HDUs {shown(plane.hdu)}, numbers {', '.join(numbers[:-1])} and "
                f"{numbers[-1]}: give the number of one (of counts: --counts-hdu {numbers[0]})"
            )
        if candidates:
            return candidates[0]
        return images[0] if plane.only_image_will_do and len(images) == 1 else None


def _open_bytes(path: Path, gzipped: bool, stack: ExitStack) -> Any:
    handle: Any = stack.enter_context(path.open("rb"))
    return stack.enter_context(gzip.open(handle)) if gzipped else handle


def _version(path: Path) -> Any:
    with suppress(OSError, ValueError):
        return backend_of(path).version_of(path)
    return None


def _read_headers(path: Path, handle: Any) -> Any:
    """Read all headers; the HDUs' data stay in the file."""
    with damage_named(f"{path} is truncated, damaged or no FITS file"):
        check_headers(path, handle)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "File may have been truncated", AstropyUserWarning)
            # memmap=False: maps of many GB need not fit a limited address space, and gzip has none anyway.
            hdus = fits.open(handle, memmap=False, lazy_load_hdus=False, do_not_scale_image_data=True)
        for hdu in hdus:
            str(hdu.name)  # it is parsed only now, and may be no text
        # In a gzip file that breaks off astropy sees the end of the last whole HDU, and drops the rest without a word:
        # only reading on to the end shows it.
        while handle.read(_BLOCK):
            pass
        last = hdus[-1].fileinfo()
        if handle.tell() < last["datLoc"] + last["datSpan"]:
            raise SurveyError(f"{path} is truncated: it ends before its last HDU does: get the file again")
        return hdus


def _is_gzipped(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(len(_FITS_MAGIC))
    except (OSError, ValueError) as error:  # a name with a zero byte in it is a wrong value
        reason = error.strerror if isinstance(error, OSError) else error
        raise SurveyError(f"{path} cannot be read ({reason}): check the path") from error
    if not start:
        raise SurveyError(f"{path} is empty: get the file again")
    if start.startswith(_GZIP_MAGIC):
        return True
    if start != _FITS_MAGIC:
        raise SurveyError(f"{path} is not a FITS file (.fits, .fits.gz, .fits.fz): give the file of the counts map")
    return False
