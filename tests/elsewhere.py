"""The run that is made on every kind of cluster, and must come to the same on each."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import distributed
import pytest
from batch import SECONDS

ROOT = Path(__file__).parents[1]
WORKFLOWS = ROOT / "workflows"
# Commands of the project are found as after an installation; those of SLURM's daemons, too.
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"}
# All output of a command.
PRINTED = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
# Small tiles, enough of them that workers have something to do, and a stop that is looked for.
OPTIONS = ("--n-scale=2", "--min-scale=1.5", "--tile-size=128", "--fits=no")
# Long enough that something can happen to it.
LONG = (*OPTIONS, "--stopping=fixed", "--max-iter=75")
# Ended by the test itself.
ENDLESS = (*OPTIONS, "--stopping=fixed", "--max-iter=60000")


def digest_of(run_dir):
    """Digest of the maps of a finished run that keeps its promises."""
    certificate = json.loads((run_dir / "certificate.json").read_text())
    assert certificate["tiling_exact"]
    return certificate["digest_maps"]


def tiles_done(run_dir):
    """How many tiles have published."""
    return len([path for path in run_dir.glob("ledger/tile-*.json") if "." not in path.stem])


def console(page):
    """The commands of a page."""
    return re.findall(r"^\$ (.*?)(?:  +#.*)?$", (WORKFLOWS / page).read_text(encoding="utf-8"), re.MULTILINE)


def bash(directory, *lines, environment=ENVIRONMENT):
    """Type lines into a shell that ends at the first error; its status and all that was printed."""
    words = ["bash", "-c", "\n".join(["set -euo pipefail", *lines])]
    done = subprocess.run(words, cwd=directory, env=environment, timeout=SECONDS, check=False, **PRINTED)
    return done.returncode, done.stdout


def assert_refuses_strangers(address):
    """A scheduler refuses clients that use plain TCP or a certificate of their own."""
    for scheme, security in (("tcp", None), ("tls", distributed.Security.temporary())):
        with pytest.raises(OSError, match="."):
            distributed.Client(
                f"{scheme}://{address.rpartition('/')[2]}", security=security, timeout=3, set_as_default=False
            )
