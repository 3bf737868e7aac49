"""Tasks that workers import in no time: they wait, hang, die, or take memory."""

import os
import signal
import time
from pathlib import Path


def invert(item):
    return 1 / item


def count_calls(folder, item):
    Path(folder, f"{item}-{time.time_ns()}").touch()
    return len(list(Path(folder).iterdir()))


def wait(folder, item):
    """Note the start, and end when there is a file `end`, or after a minute."""
    Path(folder, f"started-{item}").touch()
    for _ in range(6000):
        if Path(folder, "end").exists():
            break
        time.sleep(0.01)
    return item


def wait_but_first(folder, item):
    return wait(folder, item) if item else item


def die_once(folder, item):
    """Kill the worker process at the first try of one item."""
    mark = Path(folder, "died")
    if item == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def hang_once(folder, item):
    """Never return from the first try of one item."""
    mark = Path(folder, "hung")
    if item == 1 and not mark.exists():
        mark.touch()
        time.sleep(3600)
    return item


def eat_memory(item):
    """Take a GB, bit by bit, for one item."""
    eaten = [b"1" * 2**24 for _ in range(64 if item == 1 else 0) if not time.sleep(0.1)]
    return item + len(eaten)
