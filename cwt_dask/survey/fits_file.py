"""FITS files: opening them, and finding the HDU that holds a plane."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astropy.io import fits

from cwt_dask.config.validation import shown
from cwt_dask.cwt.inputs import MAPS
from cwt_dask.errors import SurveyError
from cwt_dask.storage.checksum import sha256_of_file
from cwt_dask.storage.paths import backend_of, open_file
from cwt_dask.survey.bands import MisfitError
from cwt_dask.survey.headers import count_hdus, damage_named
from cwt_dask.survey.source import HDU_OR_BAND, PlaneSource

_GZIP_MAGIC = b"\x1f\x8b"
_FITS_MAGIC = b"SIMPLE"
# What else files of maps are found to be, by their first bytes.
_OTHER_FORMATS = {
    _GZIP_MAGIC: ("a gzip file", "unpack it with gunzip"),
    b"BZh": ("compressed with bzip2", "unpack it with bunzip2"),
    b"\xfd7zXZ\0": ("compressed with xz", "unpack it with unxz"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "unpack it with unzstd"),
    b"\x1f\x9d": ("compressed with compress (.Z)", "unpack it with uncompress"),
    b"PK\x03\x04": ("a ZIP archive", "unpack it with unzip"),
    b"version https://git-lfs": ("a pointer of Git LFS, not the file itself", "get that with git lfs pull"),
    b"<": ("a web page or another text", "get the file again"),
}
_LONGEST = max(map(len, _OTHER_FORMATS))


@dataclass(eq=False)
class FitsFile:
    """An open FITS file."""

    path: Path
    hdus: list[Any]  # Those of astropy.
    gzipped: bool  # Whether the whole file is compressed with gzip.
    version: Any  # When it was opened.

    @classmethod
    @contextmanager
    def open(cls, path: Path, wanted: str = "the counts map") -> Iterator[FitsFile]:
        """Open a file and read the headers of all its HDUs; `wanted` is what it should hold, for messages.

        Raises SurveyError if it cannot be read, is empty, no FITS file, or shorter than its headers say.
        """
        opened, gzipped = _version(path), _is_gzipped(path, wanted)
        with ExitStack() as stack:
            # Names and units end where they do, whatever the user has set for his own files.
            stack.enter_context(fits.conf.set_temp("strip_header_whitespace", value=True))
            hdus = _read_headers(path, _open_bytes(path, gzipped, stack), stack)
            yield cls(path, hdus, gzipped, opened)

    def new_handle(self, stack: ExitStack) -> Any:
        """Open the file once more, unpacked, for the length of `stack`."""
        return _open_bytes(self.path, self.gzipped, stack)

    def refuse_changed(self) -> None:
        """Raise SurveyError if the file was written to, or replaced, since it was opened: it may hold two versions."""
        if _version(self.path) != self.version:
            raise SurveyError(f"{self.path} changed while it was read: wait until it is written, and start again")

    def sha256(self) -> str:
        """SHA-256 of its bytes, compressed or not.

        Raises SurveyError as `refuse_changed`.
        """
        found = sha256_of_file(self.path)
        self.refuse_changed()
        return found

    def has(self, name: str) -> bool:
        """Whether there is an HDU of a name, be it behind a prefix."""
        return any(has_name(hdu, name) for hdu in self.hdus)

    def find(self, plane: PlaneSource) -> Any:
        """Find the HDU of a plane; None where there is none and none is required.

        Raises SurveyError if there is none, or MisfitError if several images have its name.
        """
        with damage_named(f"{self.path} is damaged"):
            hdu = self._named(plane)
        if hdu is not None or not plane.required:
            return hdu
        images = {number: hdu.name for number, hdu in enumerate(self.hdus) if _is_image(hdu)}
        for table in self.hdus if not images else ():
            if not table.is_image and (kind := kind_of_table(table)) != _OTHER:
                raise SurveyError(f"{self.path} has no image: HDU {table.name} is {kind}: {TABLES[kind]}")
        present = ", ".join(f"{number} {hdu.name or '(no name)'}" for number, hdu in enumerate(self.hdus))
        raise SurveyError(f"{self.path} has no HDU {shown(plane.hdu)}; it has {present}: {plane.remedy(images)}")

    def _named(self, plane: PlaneSource) -> Any:
        if HDU_OR_BAND.fullmatch(plane.hdu):
            return self.hdus[int(plane.hdu)] if int(plane.hdu) < len(self.hdus) else None
        images = [hdu for hdu in self.hdus if _is_image(hdu)]
        for name in (plane.hdu, *plane.otherwise):
            named = [hdu for hdu in self.hdus if hdu.name.upper() == name.upper()]
            # A name may be given twice, to a table and an image.
            if candidates := [hdu for hdu in images if hdu in named] or named:
                return self._only(candidates, plane, shown(name))
            if candidates := [hdu for hdu in images if _ends_with(hdu.name, name)]:
                return self._only(candidates, plane, f"with names that end in {shown(name)}")
        # The only image is not that of the counts if it is called after something else.
        sole = [] if len(images) != 1 or not plane.only_image_will_do else images
        return next((hdu for hdu in sole if plane.own_file or hdu.name.lower() not in MAPS), None)

    def _only(self, candidates: list[Any], plane: PlaneSource, what: str) -> Any:
        if len(candidates) > 1:
            numbers = [str(number) for number, hdu in enumerate(self.hdus) if hdu in candidates]
            raise MisfitError(
                f"{self.path} has {len(candidates)} HDUs {what}, numbers {', '.join(numbers[:-1])} and {numbers[-1]}",
                f"give the number of one, such as {plane.option(numbers[0])}",
            )
        return candidates[0]


# What tables of the field hold, and what makes maps of them.
_EVENTS, _INDEX = "an event list, not an image", "an index of event lists, not an image"
_HEALPIX, _OTHER = "a HEALPix map, not an image", "a table, not an image"
_BINNED = (
    "run, plan and ingest bin events onto a map, with --center L,B --size W,H --pixel P and a background, --background "
    "FILE, or estimate with --background-scale"
)
TABLES = {
    _EVENTS: _BINNED,
    _INDEX: _BINNED,
    _HEALPIX: "give a map of the sphere for all planes, or an image for all",
    _OTHER: "name the HDU that holds the image",
}


def is_event_list(table: Any) -> bool:
    """Whether a table says that it holds events."""
    return table.name.upper() == "EVENTS" or str(table.header.get("HDUCLAS1")).upper() == "EVENTS"


def is_index(hdu: Any) -> bool:
    """Whether an HDU is an index of gamma-astro-data-formats: files and HDUs by observation, or observations."""
    return not hdu.is_image and (hdu.name.upper() in _INDEX_NAMES or hdu.header.get("HDUCLAS1") == "INDEX")


_INDEX_NAMES = ("HDU_INDEX", "OBS_INDEX")
# Exposures of Gammapy's response maps, which have other pixels.
_OF_RESPONSES = ("PSF_EXPOSURE", "EDISP_EXPOSURE")


def has_name(hdu: Any, wanted: str) -> bool:
    """Whether an HDU has a name, be it behind a prefix."""
    return str(hdu.name).upper() == wanted or _ends_with(hdu.name, wanted)


def _ends_with(name: str, wanted: str) -> bool:
    """Whether a name is the wanted one behind a prefix, such as of a dataset."""
    name, wanted = name.upper(), wanted.upper()
    before = name.removesuffix(wanted)
    return before not in ("", name) and not before[-1].isalnum() and not name.endswith(_OF_RESPONSES)


def kind_of_table(hdu: Any) -> str:
    """What a table holds, one of `TABLES`."""
    if is_event_list(hdu):
        return _EVENTS
    if is_index(hdu):
        return _INDEX
    return _HEALPIX if is_healpix(hdu) else _OTHER


def is_healpix(hdu: Any) -> bool:
    """Whether an HDU is a table of HEALPix pixels."""
    if hdu.is_image:
        return False
    return str(hdu.header.get("PIXTYPE")).strip().upper() == "HEALPIX" or {"NSIDE", "ORDERING"} <= set(hdu.header)


def _is_image(hdu: Any) -> bool:
    return is_healpix(hdu) or (hdu.is_image and bool(getattr(hdu, "shape", ())))


def _open_bytes(path: Path, gzipped: bool, stack: ExitStack) -> Any:
    handle: Any = stack.enter_context(open_file(path))
    return stack.enter_context(gzip.open(handle)) if gzipped else handle


def _version(path: Path) -> Any:
    with suppress(OSError, ValueError):
        return backend_of(path).version_of(path)
    return None


def _read_headers(path: Path, handle: Any, stack: ExitStack) -> list[Any]:
    """Read all headers; the HDUs' data stay in the file."""
    with damage_named(_no_fits_file(path)):
        n_hdus = count_hdus(path, handle)
        # memmap=False: maps of many GB need not fit a limited address space, and gzip has none anyway. One by one: of
        # whatever follows the last one astropy would try to make another.
        opened = stack.enter_context(fits.open(handle, memmap=False, lazy_load_hdus=True, do_not_scale_image_data=True))
        hdus = [opened[number] for number in range(n_hdus)]
        for hdu in hdus:
            str(hdu.name)  # it is parsed only now, and may be no text
        return hdus


def _no_fits_file(path: Path) -> str:
    return f"{path} is truncated, damaged or no FITS file"


def _is_gzipped(path: Path, wanted: str) -> bool:
    try:
        with open_file(path) as file:
            is_pipe = not file.seekable()
            start = b"" if is_pipe else file.read(_LONGEST)
    except IsADirectoryError as error:
        raise SurveyError(
            f"{path} is a directory, and no survey's store: give a file; or event lists in it with the map to bin them "
            "onto, --center L,B --size W,H --pixel P"
        ) from error
    except (OSError, ValueError) as error:  # a name with a zero byte in it is a wrong value
        reason = error.strerror if isinstance(error, OSError) else error
        raise SurveyError(f"{path} cannot be read ({reason}): check the path") from error
    if is_pipe:
        raise SurveyError(f"{path} is a pipe, which can be read only once: write it to a file, and give that")
    if not start:
        raise SurveyError(f"{path} is empty: get the file again")
    if not start.startswith(_GZIP_MAGIC):
        _refuse_other_formats(str(path), start, wanted)
        return False
    with damage_named(_no_fits_file(path)), ExitStack() as stack:
        unpacked = _open_bytes(path, gzipped=True, stack=stack).read(_LONGEST)
        _refuse_other_formats(f"{path}, unpacked,", unpacked, wanted)
    return True


def _refuse_other_formats(what: str, start: bytes, wanted: str) -> None:
    """Raise SurveyError if a file does not start as FITS files do."""
    for magic, (kind, remedy) in _OTHER_FORMATS.items():
        if start.startswith(magic):
            raise SurveyError(f"{what} is {kind}: {remedy}")
    if not start.startswith(_FITS_MAGIC):
        raise SurveyError(f"{what} is not a FITS file (.fits, .fits.gz, .fits.fz): give the file of {wanted}")
