"""State of jobs in SLURM."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress

# SLURM answers late when it is busy.
ANSWER_SECONDS = 60


def jobs_in_queue(seconds: float = ANSWER_SECONDS) -> Mapping[str, str] | None:
    """State and reason of each of the user's jobs that wait or run, by number; None where SLURM does not answer."""
    output = ask_slurm("squeue", "--me", "--noheader", "--format=%A %T %r", seconds=seconds)
    if output is None:
        return None
    # Sites have their commands print other lines, too.
    lines = re.findall(r"^ *(\d+) +([A-Z_]+) *(.*)$", output, re.MULTILINE)
    return {
        number: state.lower() if reason in ("", "None") else f"{state.lower()} ({reason})"
        for number, state, reason in lines
    }


def ask_slurm(*command: str, seconds: float = ANSWER_SECONDS) -> str | None:
    """Output of one of SLURM's commands; None where it fails or does not answer."""
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds).stdout
    return None
