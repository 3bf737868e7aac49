"""Another user of this machine, who plants modules in places for scratch, and tries what can be done there."""

import json
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

NOBODY = 65534
# Modules that are imported late: of this project, of Dask, of libraries, and one that does not exist.
PLANTED = ("cwt_dask", "numba", "tornado", "scipy", "uvloop", "_wmi")
TRAP = "open({!r}, 'w').close()"
CAUGHT = "caught"
DEEDS = {
    "list": lambda path: next(path.iterdir(), None),
    "read": lambda path: path.read_bytes(),
    "write": lambda path: path.open("ab").close(),
    "plant": lambda path: (path / "planted").touch(),
    "move": lambda path: path.rename(path.with_name("moved")),
}


def as_nobody(deed):
    """Do something as another user, who is in none of our groups; what it gives, as JSON has it."""
    of_child, to_parent = os.pipe()
    child = os.fork()
    if not child:
        with suppress(BaseException):
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(to_parent, json.dumps(deed()).encode())
        os._exit(0)
    os.close(to_parent)
    with os.fdopen(of_child, "rb") as file:
        given = file.read()
    os.waitpid(child, 0)
    return json.loads(given)


def plant(place, *names):
    """Make directories, open to all, with modules in them that leave a sign in `place` where they are imported."""

    def deed():
        for name in names:
            (place / name).mkdir()
            for module in PLANTED:
                (place / name / f"{module}.py").write_text(TRAP.format(str(place / CAUGHT)))
            (place / name).chmod(0o777)

    as_nobody(deed)


def intrusions(place, *, mounted=False):
    """What another user, who knows all names, can do with a directory and what lies below it: a line a deed.

    What is mounted stays where it is, whatever becomes of its name in a volume.
    """
    below = [Path(folder) / name for folder, *names in os.walk(place) for name in (*names[0], *names[1])]

    def can(deed, path):
        try:
            DEEDS[deed](path)
        except OSError:
            return False
        return True

    # Moved last, since its name is that of all below.
    tried = [(deed, path) for path in (*below, place) for deed in DEEDS]
    tried = [each for each in tried if not mounted or each != ("move", place)]
    return as_nobody(lambda: [f"{deed} {path}" for deed, path in tried if can(deed, path)])


@contextmanager
def shared_space():
    """A directory for temporary files that all users share; the other one was there first."""
    shared = Path(tempfile.mkdtemp())
    shared.chmod(0o1777)
    plant(shared, "dask-scratch-space")
    try:
        yield shared
    finally:
        # What ends at the same time removes its own.
        shutil.rmtree(shared, ignore_errors=True)
