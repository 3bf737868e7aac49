"""Zarr groups in directories and buckets; chunks are safe before any record says that they are done."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import google_crc32c
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import FsspecStore, LocalStore, MemoryStore, WrapperStore

from cwt_dask.config.settings import digest
from cwt_dask.errors import DamageError, SurveyError
from cwt_dask.storage import directory, disk
from cwt_dask.storage.links import refuse_link_to
from cwt_dask.storage.marks import remedy_of
from cwt_dask.storage.paths import STORAGE_OPTIONS, is_object, read_file
from cwt_dask.storage.sealed import BROKEN, SEAL, is_sound

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import DTypeLike, NDArray
    from zarr.abc.store import Store
    from zarr.core.buffer import Buffer

# What damaged files make Zarr and its codecs raise, and missing ones; where none may be read it is `AccessError`.
MALFORMED = (ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError, LookupError)
DAMAGE = (OSError, *MALFORMED)
# Chunks that are written and not yet on the disk.
MOST_LANDING = 32
# The attribute that holds the digest of all else in a `zarr.json`: Zarr itself checks chunks only.
DIGEST = "digest_metadata"


def create_group(path: Path, **attributes: Any) -> zarr.Group:
    """Make a group that can be written."""
    return _create_group(_store(path), attributes)


def create_noted_group(path: Path) -> tuple[zarr.Group, Mapping[str, int], Mapping[str, str]]:
    """Make a group that can be written, and note the checksum with which each chunk ends, by its key.

    So is the sha256 of each file of metadata: of what was to be written, whatever the disk has made of it.
    """
    store = _NotedStore(_store(path))
    return _create_group(store, {}), store.checksums, store.descriptions


def open_group(path: Path, *, writable: bool = False, whole: Literal["", "survey", "run"] = "") -> zarr.Group:
    """Open a group; what goes wrong is as `zarr.open_group` has it, but that damage is named.

    Groups in it are opened by their own paths, not as its members: Zarr counts on an assertion there, and `python -O`
    leaves it out.

    Parameters
    ----------
    path : Path
        The group.
    writable : bool, optional
        Whether arrays can be written.
    whole : str, optional
        Of a survey or a run that is complete: to read a chunk that is not there is an error, too. Errors are
        SurveyError of a survey, else DamageError.
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
    contents = {name: buffer.to_bytes() for name, buffer in files.items()}
    return {name: _with_digest(content) if _is_metadata(name) else content for name, content in contents.items()}


def parsed(description: bytes) -> dict[str, Any]:
    """What Zarr takes from a file that describes a group or an array.

    Raises Exception: one of `MALFORMED` if it describes none.
    """
    files = {"zarr.json": default_buffer_prototype().buffer.from_bytes(_without_digest(description))}
    found: dict[str, Any] = zarr.open(MemoryStore(files), mode="r", zarr_format=3).metadata.to_dict()
    return found


@contextmanager
def flushing_behind(group: zarr.Group) -> Iterator[None]:
    """Wait for the disk at the end of the block, not after each chunk that is written to a group.

    Chunks come in sight one after the other meanwhile; at the end all are on the disk, or their error is raised.
    """
    store = group.store
    while isinstance(store, WrapperStore):
        store = store._store  # noqa: SLF001 - Zarr gives it no other name
    with store.flushing_behind() if isinstance(store, DurableStore) else nullcontext():
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
            _sync_folders(self._folders)
        finally:
            self._flusher = None
            self._landing.clear()
            self._folders.clear()

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Buffer | None:
        """Read a chunk, or metadata, which are small: a thread takes longer, but on disks that stand still.

        Parameters
        ----------
        key, prototype, byte_range
            As of `zarr.abc.store.Store`.
        """
        if byte_range is not None or not self._is_open:
            return await super().get(key, prototype, byte_range)
        path = self.root / key
        try:
            content = await asyncio.to_thread(read_file, path) if "/c/" in key else read_file(path)
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
        refuse_link_to(path.parent, self.root)
        # Whoever made one of them may not have come to sync it.
        folders = {folder for folder in path.parents if self.root in (folder, *folder.parents)}
        with ExitStack() as stack:
            stack.enter_context(directory.whole_file(path, cached=False)).write(value.as_buffer_like())
            if self._flusher:
                self._folders |= folders
                self._landing.append(self._flusher.submit(stack.pop_all().close))
        if not self._flusher:
            _sync_folders(folders)
        # Each is an open file.
        if len(self._landing) > MOST_LANDING:
            self._landing.pop(0).result()

    async def delete(self, key: str) -> None:
        """Remove a chunk or metadata; see `zarr.abc.store.Store`."""
        await asyncio.to_thread(directory.remove, self.root / key)


class _NotedStore(WrapperStore[Any]):  # type: ignore[misc] # mypy does not see Zarr's types
    """A store of which it is noted with what checksum each chunk ends, and what metadata were written."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.checksums: dict[str, int] = {}
        self.descriptions: dict[str, str] = {}

    async def set(self, key: str, value: Buffer) -> None:
        """Write a chunk or metadata; see `zarr.abc.store.Store`."""
        if "/c/" in key:
            self.checksums[key] = _checksum_of(value.to_bytes())
        elif _is_metadata(key):
            self.descriptions[key] = hashlib.sha256(_with_digest(value.to_bytes())).hexdigest()
        await self._store.set(key, value)


class _ProvenStore(WrapperStore[Any]):  # type: ignore[misc] # mypy does not see Zarr's types
    """A store with metadata that show whether they are as they were written, as chunks do; errors name the file.

    Where it is `whole`, no chunk may be missing: Zarr takes one that is not there for one of fill values.
    """

    def __init__(self, store: Store, path: Path, whole: str, checksums: dict[str, NDArray[np.uint32]]) -> None:
        super().__init__(store)
        self._path = path
        self._whole = whole
        # With what checksum each chunk of an array ends, by its place; of an array that is not there any may.
        self.checksums = checksums

    def _with_store(self, store: Store) -> _ProvenStore:
        return _ProvenStore(store, self._path, self._whole, self.checksums)

    async def get(self, key: str, *args: Any, **kwargs: Any) -> Buffer | None:
        """Read a chunk or metadata; see `zarr.abc.store.Store`."""
        content: Buffer | None = await self._store.get(key, *args, **kwargs)
        if content is not None and _is_metadata(key):
            try:
                return default_buffer_prototype().buffer.from_bytes(_without_digest(content.to_bytes()))
            except MALFORMED as error:
                raise self._damage(key, f"damaged ({error})") from error
        if "/c/" in key and (fault := self._fault_of(key, content)):
            raise self._damage(key, fault)
        return content

    async def set(self, key: str, value: Buffer) -> None:
        """Write a chunk or metadata; see `zarr.abc.store.Store`."""
        if _is_metadata(key):
            value = default_buffer_prototype().buffer.from_bytes(_with_digest(value.to_bytes()))
        await self._store.set(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write metadata that others may have written; see `zarr.abc.store.Store`."""
        if not await self._store.exists(key):
            await self.set(key, value)

    def _fault_of(self, key: str, chunk: Buffer | None) -> str:
        """What is wrong with a chunk; the error of its last codec, which checks it, too, names no file."""
        if chunk is None:
            return "lost" if self._whole else ""
        content, (array, _, place) = chunk.to_bytes(), key.partition("/c/")
        checksum = _checksum_of(content)
        if not content or google_crc32c.value(content[:-4]) != checksum:
            return "damaged (its checksum does not fit)"
        known = self.checksums.get(array)
        if known is not None and known[tuple(map(int, place.split("/")))] != checksum:
            return "damaged (it is another chunk)"
        return ""

    def _damage(self, key: str, fault: str) -> Exception:
        fault = f"{self._path / key} is {fault}"
        if self._whole == "survey":
            return SurveyError(f"{fault}: {remedy_of(self._path)}")
        return DamageError(f"{fault}: cwt-dask verify says what else is damaged, and the run's own command mends it")


def _sync_folders(folders: set[Path]) -> None:
    """Have the names of all that was written last, a directory once: from the chunks upwards."""
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        disk.sync_names(folder)


def _is_metadata(key: str) -> bool:
    return key.rpartition("/")[2] == "zarr.json"


def _with_digest(description: bytes) -> bytes:
    content = json.loads(description)
    if SEAL in content["attributes"]:
        return description  # They show it themselves.
    attributes = content["attributes"] | {DIGEST: digest(content)}
    return json.dumps(content | {"attributes": attributes}, indent=2).encode()


@lru_cache(256)  # Each tile reads the same few.
def _without_digest(description: bytes) -> bytes:
    """What Zarr has written; ValueError if it is not as it was. Earlier releases wrote no digest."""
    attributes = (content := json.loads(description))["attributes"]
    if SEAL in attributes:
        # The seal is of them alone.
        is_group = (content.get("zarr_format"), content.get("node_type")) == (3, "group")
        is_whole = is_group and is_sound(attributes)
    else:
        is_whole = attributes.pop(DIGEST, None) in (None, digest(content))
    if not is_whole:
        raise ValueError(BROKEN)
    return json.dumps(content).encode()


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
    return _ProvenStore(store, path, whole, {})
