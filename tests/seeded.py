"""A disk that fails by a seed: errors, torn writes, flipped bits, and power that goes, with all that was not synced."""

import asyncio
import errno
import io
import os
import random
import re
import shutil
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from cwt_dask.storage import drafts

READS, WRITES = ("read",), ("new", "write", "sync", "names", "make")
ERRORS = {
    "read": (errno.EIO, errno.EACCES),
    "scan": (errno.EIO, errno.EACCES),
    "lock": (errno.EIO, errno.EACCES),
    "new": (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EIO),
    "write": (errno.ENOSPC, errno.EDQUOT, errno.EIO),
    "sync": (errno.ENOSPC, errno.EDQUOT, errno.EIO),
    "names": (errno.EIO,),
    "rename": (errno.EIO, errno.EACCES, errno.ENOSPC),
    "remove": (errno.EIO, errno.EACCES),
    "make": (errno.ENOSPC, errno.EDQUOT, errno.EACCES),
}
# Once; a write of which a part is made; from then on until the command ends; a bit of what is read; the power.
FAULTS = {"error": tuple(ERRORS), "tear": ("write", "sync"), "full": WRITES, "flip": READS, "power": tuple(ERRORS)}


class PowerLoss(BaseException):
    """The machine is off."""


class Fault(NamedTuple):
    at: int  # From which operation on, the first that can have it.
    what: str  # One of `FAULTS`.


class Late:
    """In place of a pool of one thread: what is submitted is done at once or at the end, as the seed has it."""

    def __init__(self, dice):
        self.dice, self.waiting = dice, []

    def __call__(self, _workers):
        return self

    def submit(self, function):
        done = Done(function)
        self.waiting.append(done)
        if self.dice.random() < 0.5:
            done.settle()
        return done

    def map(self, function, items):
        return map(function, items)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        while self.waiting:
            self.waiting.pop(0).settle()


class Done(Future):
    """What comes of a function, once."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def settle(self):
        if not self.done():
            try:
                self.set_result(self.function())
            except BaseException as error:  # noqa: BLE001 - it is raised where it is asked for
                self.set_exception(error)
        return self

    def result(self, timeout=None):
        return self.settle() and super().result(timeout)


async def here(function, *arguments, **named):
    """In place of `asyncio.to_thread`: in this thread, so that a seed has one order of things."""
    return function(*arguments, **named)


class SeededDisk:
    """In place of `cwt_dask.storage.disk`, for what lies below one directory.

    It knows what was synced: the content of files, and the names in directories, by the numbers that the system gives
    them. When the power goes, of each name that was not synced since either state is there, of each content any part.
    """

    def __init__(self, root, seed, faults=(), *, boots=0):
        self.root, self.dice = root, random.Random(seed)  # noqa: S311 - to be the same each time
        self.faults, self.n, self.boots = sorted(faults), 0, boots
        self.full, self.image, self.met = False, None, []
        self._begin()

    def _begin(self):
        """All that is there is on the disk."""
        self.contents, self.names, self.held = {}, {}, []
        for path in (self.root, *self.root.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                self._note_names(path)
            elif not path.is_symlink():
                self._note_content(path)

    def _hold(self, path):
        # As long as it is open the system gives its number to no other.
        self.held.append(os.open(path, os.O_PATH))
        return os.fstat(self.held[-1]).st_ino

    def _note_content(self, path):
        self.contents[self._hold(path)] = path.read_bytes()

    def _note_names(self, folder):
        self.names[self._hold(folder)] = names_in(folder)

    # What the package asks for.

    @contextmanager
    def mounted(self):
        """In place of the disk for the length of a `with` block; what it may do to the machine's number is undone."""
        asked = "open_file", "scan", "new_file", "scratch_file", "sync", "sync_names", "acquire", "rename", "remove"
        calls = {name: getattr(self, name) for name in (*asked, "make_directory")}
        loop = asyncio.new_event_loop()

        def carry_out(coroutine, _loop):
            return Done(partial(loop.run_until_complete, coroutine)).settle()

        try:
            with (
                mock.patch("asyncio.to_thread", here),
                mock.patch("asyncio.run_coroutine_threadsafe", carry_out),
                mock.patch.multiple("cwt_dask.storage.disk", **calls),
                mock.patch("cwt_dask.storage.zarr_io.ThreadPoolExecutor", Late(self.dice)),
                mock.patch("cwt_dask.survey.store.ThreadPoolExecutor", Late(self.dice)),
                mock.patch("cwt_dask.storage.driver.this_machine", self._machine),
                mock.patch("cwt_dask.storage.drafts.this_machine", self._machine),
            ):
                drafts._here.cache_clear()
                yield self
        finally:
            drafts._here.cache_clear()
            self._close()
            loop.close()

    def _machine(self):
        return f"boot-{self.boots} {drafts._NO_CONTAINER}"

    def _close(self):
        while self.held:
            os.close(self.held.pop())

    def open_file(self, path):
        what = self._operation("read", path)
        return Content(self._flipped(path.read_bytes()) if what == "flip" else path.read_bytes(), path)

    def _flipped(self, content):
        content = bytearray(content)
        if content:
            bit = self.dice.randrange(8 * len(content))
            content[bit // 8] ^= 1 << bit % 8
        return bytes(content)

    def scan(self, folder):
        self._operation("scan", folder)
        return list(os.scandir(folder))

    def acquire(self, lock):
        self._operation("lock", Path(lock.lock_file))
        lock.acquire(blocking=False)

    def scratch_file(self, directory, _in_memory):
        return Scratch(self, directory)

    def new_file(self, path):
        self._operation("new", path)
        return New(self, path)

    def sync(self, file):
        file.flush()
        if self._operation("sync", file.path) == "tear":
            os.truncate(file.path, file.path.stat().st_size // 2)
            self._fail("sync", file.path)
        self._note_content(file.path)

    def sync_names(self, directory):
        self._operation("names", directory)
        self._note_names(directory)

    def rename(self, old, new):
        self._operation("rename", new)
        old.replace(new)

    def remove(self, path):
        self._operation("remove", path)
        path.unlink()

    def make_directory(self, path):
        self._operation("make", path)
        path.mkdir(parents=True, exist_ok=True)

    # What happens.

    def _operation(self, kind, path):
        """Have the next fault happen, if its time has come; what it is, where it is more than an error."""
        if self.image is not None:
            raise PowerLoss
        self.n += 1
        if self.full and kind in WRITES:
            self.met.append(("full", kind, path))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        due = [fault for fault in self.faults if fault.at <= self.n and kind in FAULTS[fault.what]]
        if not due or (due[0].what == "flip" and path.name == "survey.fits"):
            # Nothing shows whether what was given is as it was written.
            return ""
        self.faults.remove(due[0])
        what = due[0].what
        self.met.append((what, kind, path))
        if what == "power":
            self.image = self._after_the_loss()
            raise PowerLoss
        if what == "full":
            self.full = True
        if what in {"error", "full"}:
            self._fail(kind, path, *[errno.ENOSPC][: what == "full"])
        return what

    def _fail(self, kind, path, *numbers):
        number = self.dice.choice(numbers or ERRORS[kind])
        # What the system says of a file that is open has no name.
        named = () if kind in {"write", "sync"} else (str(path),)
        raise OSError(number, os.strerror(number), *named)

    def _after_the_loss(self):
        """All that may be left: a dict of a directory, bytes of a file, by name."""
        here = {path.lstat().st_ino: path for path in (self.root, *self.root.rglob("*"))}

        def left(number):
            path = here.get(number)
            if number in self.names or (path and path.is_dir()):
                synced = self.names.get(number, {})
                now = names_in(path) if path else synced
                chosen = {name: self.dice.choice((synced, now)).get(name) for name in sorted(synced | now)}
                return {name: left(each) for name, each in chosen.items() if each is not None}
            synced, now = self.contents.get(number), path.read_bytes() if path else None
            if synced is not None and now in (None, synced):
                return synced
            some = [b"", now or b"", (now or b"")[: self.dice.randrange(len(now or b"") + 1)], bytes(len(now or b""))]
            return self.dice.choice(some if synced is None else [synced, *some])

        return left(self.root.stat().st_ino)

    def end_command(self):
        """The command has ended: there is room again; or the power has come back."""
        self.full = False
        if self.image is not None:
            self._close()
            image, self.image = self.image, None
            for path in self.root.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            lay(self.root, image)
            self.boots += 1
            drafts._here.cache_clear()
            self._begin()


def names_in(folder):
    return {entry.name: entry.inode() for entry in os.scandir(folder)}


def lay(folder, image):
    for name, content in image.items():
        if isinstance(content, dict):
            (folder / name).mkdir()
            lay(folder / name, content)
        else:
            (folder / name).write_bytes(content)


class Content(io.BytesIO):
    """A file that is read."""

    def __init__(self, content, path):
        super().__init__(content)
        self.path = path


class New:
    """A file that is written; what it cannot do is done as by any file."""

    def __init__(self, disk, path):
        self.disk, self.path, self.begun = disk, path, False
        self.file = path.open("xb")

    def write(self, content):
        if not self.begun:
            self.begun = True
            if self.disk._operation("write", self.path) == "tear":
                part = memoryview(content).cast("B")
                self.file.write(part[: len(part) // 2])
                self.disk._fail("write", self.path)
        return self.file.write(content)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


class Scratch(io.BytesIO):
    """A file without a name in a directory: it does not outlive the command."""

    def __init__(self, disk, directory):
        super().__init__()
        self.disk, self.directory = disk, directory

    def write(self, content):
        if self.disk._operation("write", self.directory) == "tear":
            self.disk._fail("write", self.directory)
        return super().write(content)

    def read(self, size=-1):
        what, content = self.disk._operation("read", self.directory), super().read(size)
        return self.disk._flipped(content) if what == "flip" else content


def draw_faults(seed, n_operations):
    """One to three faults within so many operations."""
    dice = random.Random(f"faults {seed}")  # noqa: S311
    kinds = dice.choice((("power",), ("error",), ("tear", "full"), ("flip",), tuple(FAULTS)))
    number = dice.choice((1, 1, 2, 3))
    return [Fault(dice.randrange(n_operations), dice.choice(kinds)) for _ in range(number)]


def real_name(text):
    """Names of what is being made under hidden ones."""
    return re.sub(r"/\.([^/]+)\.cwt-[0-9a-f]{18}-\d+-\d+-[0-9a-f]{8}(\.old)?", r"/\1", str(text))
