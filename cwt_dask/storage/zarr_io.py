"""Zarr groups in directories and buckets; chunks are safe before any record says that they are done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import google_crc32c
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import FsspecStore, LocalStore, MemoryStore, WrapperStore

from cwt_dask.errors import DamageError, SurveyError
from cwt_dask.storage import directory, disk
from cwt_dask.storage.marks import remedy_of
from cwt_dask.storage.paths import STORAGE_OPTIONS, is_object, read_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import DTypeLike, NDArray
    from zarr.abc.store import Store
    from zarr.core.buffer import Buffer

# What damaged files make Zarr and its codecs raise, and what those do that are missing or cannot be read.
MALFORMED = (ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError, LookupError)
DAMAGE = (OSError, *MALFORMED)
# Chunks that are written and not yet on the disk.
MOST_LANDING = 32


def create_group(path: Path, **attributes: Any) -> zarr.Group:
    """Make a group that can be written."""
    return _create_group(_store(path), attributes)


def create_noted_group(path: Path) -> tuple[zarr.Group, Mapping[str, int]]:
    """Make a group that can be written, and note the checksum with which each chunk ends, by its key."""
    store = _NotedStore(_store(path))
    return _create_group(store, {}), store.checksums


def open_group(
    path: Path, *, writable: bool = False, whole: Literal["", "survey", "run", "but for zeros"] = ""
) -> zarr.Group:
    """Open a group; what goes wrong is as `zarr.open_group` has it.

    Groups in it are opened by their own paths, not as its members: Zarr counts on an assertion there, and `python -O`
    leaves it out.

    Parameters
    ----------
    path : Path
        The group.
    writable : bool, optional
        Whether arrays can be written.
    whole : str, optional
        Of a survey or a run that is complete: reading a chunk that is damaged or not there raises SurveyError or
        DamageError. Of seams chunks of zeros are not there.
    """
    # Without the version, files of older ones would be looked for, too.
    store = _store(path, read_only=not writable, whole=whole)
    return zarr.open_group(store, mode="r+" if writable else "r", zarr_format=3)


def create_array(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: DTypeLike,
    *,
    axes: tuple[str, ...],
    compressors: tuple[Any, ...] = (),
    **attributes: Any,
) -> zarr.Array:
    """Make an array of zeros in a group; each chunk has a checksum. What is written of zeros alone is written, too.

    Parameters
    ----------
    group : zarr.Group
        That of `create_group`.
    name : str
        Name of the array.
    shape, chunks : tuple of int
        Its shape, and that of a chunk.
    dtype : dtype-like
        Its type.
    axes : tuple of str
        Names of its axes.
    compressors : tuple, optional
        Codecs of a chunk.
    **attributes
        Of the array.
    """
    # All of it is said here: what is left out follows Zarr's configuration, which is the user's.
    return group.create_array(
        name,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        fill_value=0,
        filters=(),
        serializer=BytesCodec(endian="little"),
        compressors=(*compressors, Crc32cCodec()),
        dimension_names=axes,
        attributes=attributes,
        config={"order": "C", "write_empty_chunks": True},
    )


def described(fill: Callable[[zarr.Group], None], **attributes: Any) -> dict[str, bytes]:
    """What a group and the arrays that `fill` makes in it have in the files that describe them, by name."""
    files: dict[str, Buffer] = {}
    fill(_create_group(MemoryStore(files), attributes))
    return {name: buffer.to_bytes() for name, buffer in files.items()}


def parsed(description: bytes) -> dict[str, Any]:
    """What Zarr takes from a file that describes a group or an array.

    Raises Exception: one of `MALFORMED` if it describes none.
    """
    files = {"zarr.json": default_buffer_prototype().buffer.from_bytes(description)}
    found: dict[str, Any] = zarr.open(MemoryStore(files), mode="r", zarr_format=3).metadata.to_dict()
    return found


@contextmanager
def flushing_behind(group: zarr.Group) -> Iterator[None]:
    """Wait for the disk at the end of the block, not after each chunk that is written to a group.

    Chunks come in sight one after the other meanwhile; at the end all are on the disk, or their error is raised.
    """
    with group.store.flushing_behind() if isinstance(group.store, DurableStore | _NotedStore) else nullcontext():
        yield


class DurableStore(LocalStore):  # type: ignore[misc] # mypy does not see Zarr's types
    """A directory that survives a crash of the machine: Zarr's own renames, but leaves the writing to the system.

    Nor does what is written push out of the system's memory what is read again: docs/design/0001-tiles.md.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._landing: list[Future[None]] = []
        self._flusher: ThreadPoolExecutor | None = None
        self._folders: set[Path] = set()

    @contextmanager
    def flushing_behind(self) -> Iterator[None]:
        """See the function of that name."""
        try:
            with ThreadPoolExecutor(1) as self._flusher:
                yield
            while self._landing:
                self._landing.pop(0).result()
            self._sync_folders()
        finally:
            self._flusher = None
            self._landing.clear()
            self._folders.clear()

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Buffer | None:
        """Read a chunk or metadata; see `zarr.abc.store.Store`."""
        if byte_range is not None or not self._is_open:
            return await super().get(key, prototype, byte_range)
        try:
            content = await asyncio.to_thread(read_file, self.root / key)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        return (prototype or default_buffer_prototype()).buffer.from_bytes(content)

    async def set(self, key: str, value: Buffer) -> None:
        """Write a chunk or metadata; see `zarr.abc.store.Store`."""
        await asyncio.to_thread(self.set_sync, key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        """Write a chunk or metadata here and now."""
        self._check_writable()
        path = self.root / key
        disk.make_directory(path.parent)
        # Whoever made one of them may not have come to sync it.
        self._folders.update(folder for folder in path.parents if self.root in (folder, *folder.parents))
        with ExitStack() as stack:
            stack.enter_context(directory.whole_file(path, cached=False)).write(value.as_buffer_like())
            if self._flusher:
                self._landing.append(self._flusher.submit(stack.pop_all().close))
        if not self._flusher:
            self._sync_folders()
        # Each is an open file.
        if len(self._landing) > MOST_LANDING:
            self._landing.pop(0).result()

    async def delete(self, key: str) -> None:
        """Remove a chunk or metadata; see `zarr.abc.store.Store`."""
        await asyncio.to_thread(directory.remove, self.root / key)

    def _sync_folders(self) -> None:
        """Have the names of all that was written last, a directory once: from the chunks upwards."""
        while self._folders:
            folder = max(self._folders, key=lambda folder: len(folder.parts))
            disk.sync_names(folder)
            self._folders.remove(folder)


class _NotedStore(WrapperStore[Any]):  # type: ignore[misc] # mypy does not see Zarr's types
    """A store of which it is noted with what checksum each chunk ends."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.checksums: dict[str, int] = {}

    def flushing_behind(self) -> AbstractContextManager[None]:
        """See the function of that name."""
        return self._store.flushing_behind() if isinstance(self._store, DurableStore) else nullcontext()

    async def set(self, key: str, value: Buffer) -> None:
        """Write a chunk or metadata; see `zarr.abc.store.Store`."""
        if "/c/" in key:
            self.checksums[key] = _checksum_of(value.to_bytes())
        await self._store.set(key, value)


class _WholeStore(WrapperStore[Any]):  # type: ignore[misc] # mypy does not see Zarr's types
    """A store in which no chunk may be damaged or missing: Zarr takes one that is not there for one of fill values."""

    def __init__(self, store: Store, path: Path, whole: str, checksums: dict[str, NDArray[np.uint32]]) -> None:
        super().__init__(store)
        self._path = path
        self._whole = whole
        # With what checksum each chunk of an array ends, by its place; of an array that is not there any may.
        self.checksums = checksums

    def _with_store(self, store: Store) -> _WholeStore:
        return _WholeStore(store, self._path, self._whole, self.checksums)

    async def get(self, key: str, *args: Any, **kwargs: Any) -> Buffer | None:
        """Read a chunk or metadata; see `zarr.abc.store.Store`."""
        content: Buffer | None = await self._store.get(key, *args, **kwargs)
        if "/c/" in key and (fault := self._fault_of(key, content)):
            fault = f"{self._path / key} is {fault}"
            if self._whole == "survey":
                raise SurveyError(f"{fault}: {remedy_of(self._path)}")
            raise DamageError(f"{fault}: cwt-dask verify says what else is damaged, and the run's own command mends it")
        return content

    def _fault_of(self, key: str, chunk: Buffer | None) -> str:
        """What is wrong with a chunk; the error of its last codec, which checks it, too, names no file."""
        if chunk is None:
            return "" if self._whole == "but for zeros" else "lost"
        content, (array, _, place) = chunk.to_bytes(), key.partition("/c/")
        checksum = _checksum_of(content)
        if google_crc32c.value(content[:-4]) != checksum:
            return "damaged (its checksum does not fit)"
        known = self.checksums.get(array)
        if known is not None and known[tuple(map(int, place.split("/")))] != checksum:
            return "damaged (it is another chunk)"
        return ""


def _checksum_of(chunk: bytes) -> int:
    """The checksum of all before with which a chunk ends."""
    return int.from_bytes(chunk[-4:], "little")


def _create_group(store: Store, attributes: dict[str, Any]) -> zarr.Group:
    return zarr.create_group(store, zarr_format=3, attributes=attributes)


def _store(path: Path, *, read_only: bool = False, whole: str = "") -> Store:
    if is_object(path):
        store: Store = FsspecStore.from_url(str(path), storage_options=STORAGE_OPTIONS, read_only=read_only)
    else:
        store = DurableStore(path, read_only=read_only)
    return _WholeStore(store, path, whole, {}) if whole else store
