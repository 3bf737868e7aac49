"""Kill workers, drivers, and both, at seeded random moments, until runs have ended all the same: with the same bits.

Usage: python tests/chaos.py [--kills N] [--seed S]; exit status 1 where a bit differs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import spheres
from skies import poisson_sky, write_survey

from cwt_dask import run_survey
from cwt_dask.geometry.healpix import edges_of
from cwt_dask.inspection.verify import verify_run
from cwt_dask.results import SurveyRun

COMMAND = [str(Path(sys.executable).with_name("cwt-dask")), "run"]
SETTINGS = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "tile_size": 40, "max_iter": 8, "tol": 2e-4}
VICTIMS = ("worker", "worker", "driver", "everything")
# Then a run may end in peace, and the next one begins: each kind has its turn.
KILLS_A_RUN = 10


def write_sphere(path: Path) -> Path:
    """The sky around a pole, with sources on it and on the borders of facets."""
    pole = np.array([0.0, 0.0, 1.0])
    counts, background = spheres.sky(64, [pole, *edges_of(np.array([15]), 2, 2)[0]], 300.0)
    hdus = [spheres.table("COUNTS", counts, 64, pixels=spheres.cap(64, pole, 16))]
    return spheres.write(path, *hdus, spheres.table("BACKGROUND", background, 64))


def arguments(settings: dict[str, object]) -> list[str]:
    """Of the command line."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]


def workers_of(driver: int) -> list[psutil.Process]:
    """Worker processes of a driver; what else it has started is no worker."""
    children = psutil.Process(driver).children()
    return [child for child in children if any("spawn_main" in word for word in child.cmdline())]


def kill(victim: str, driver: subprocess.Popen[str], dice: random.Random) -> bool:
    """Kill it, if it is still there; whether it was."""
    try:
        if victim == "worker":
            dice.choice(sorted(workers_of(driver.pid), key=lambda process: process.pid)).kill()
        elif victim == "driver":
            driver.kill()
        else:
            os.killpg(driver.pid, signal.SIGKILL)
    except (IndexError, psutil.NoSuchProcess, ProcessLookupError):
        return False
    return True


def until_it_ends(command: list[str], kills: int, dice: random.Random, killed: Counter[str]) -> None:
    """Give a command again and again, killing something after a few events each time, until it has ended by itself."""
    while True:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as driver:
            events, before = 0, killed.total()
            at = dice.randint(1, 15)
            for line in driver.stdout:
                events += json.loads(line)["event"] in ("done", "begun")
                if events >= at and killed.total() < kills:
                    time.sleep(dice.uniform(0, 0.2))
                    victim = dice.choice(VICTIMS)
                    killed[victim] += kill(victim, driver, dice)
                    at = events + dice.randint(1, 15)
        if driver.returncode == 0:
            return
        if driver.returncode not in (-signal.SIGKILL, 1) or killed.total() == before:
            sys.exit(f"exit status {driver.returncode}, where 0, 1 or a kill was expected")


def main() -> None:
    """Run after run until all kills are done."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=150)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    dice, killed, runs = random.Random(given.seed), Counter[str](), 0
    with tempfile.TemporaryDirectory() as directory:
        flat = write_survey(Path(directory, "survey.fits"), *poisson_sky((240, 320), seed=3))
        sphere = write_sphere(Path(directory, "sphere.fits"))
        kinds = [
            (flat, {}),
            (sphere, {"psf": 1.5}),
            (flat, {"stopping": "fixed"}),
            (flat, {"significance_island_threshold": 5.0}),
        ]
        expected = [
            run_survey(survey, Path(directory, f"undisturbed-{n}"), workers=0, fits="no", **SETTINGS | kind).certificate
            for n, (survey, kind) in enumerate(kinds)
        ]
        a_run = min(KILLS_A_RUN, math.ceil(given.kills / len(kinds)))
        while killed.total() < given.kills:
            which = runs % len(kinds)
            (survey, kind), run_dir = kinds[which], Path(directory, f"run-{runs}")
            settings = SETTINGS | kind | {"workers": 2, "fits": "no", "log_format": "json"}
            enough = min(given.kills, killed.total() + a_run)
            until_it_ends([*COMMAND, str(survey), str(run_dir), *arguments(settings)], enough, dice, killed)
            runs += 1
            run = SurveyRun.open(run_dir)
            faults = [check.promise for check in verify_run(run) if check.fault]
            left = [path.name for path in run_dir.rglob(".*")]
            same = all(run.certificate[name] == expected[which][name] for name in ("digest_maps", "digest_catalogue"))
            word = "same" if same else "OTHER"
            print(f"run {runs}, {survey.stem} {kind}: {killed.total()} kills so far, {word} bits", flush=True)
            if not same or faults or left:
                sys.exit(f"digests differ, or promises are broken: {faults}, or files were left: {left}")
    victims = ", ".join(f"{number} of {victim}" for victim, number in sorted(killed.items()))
    print(f"{killed.total()} kills ({victims}) in {runs} runs: maps and catalogue are those of undisturbed runs")


if __name__ == "__main__":
    main()
