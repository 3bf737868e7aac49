"""What others set, for a process or for all that a user starts, decides neither what comes out nor what is printed.

Settings that cannot hide each other share a process, which takes its seconds.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
from astropy import units as u
from skies import poisson_sky, write_survey

from cwt_dask import run_survey
from cwt_dask.inspection.compare import compare_runs
from cwt_dask.inspection.match import match_run
from cwt_dask.inspection.verify import verify_run
from cwt_dask.report import write_report
from cwt_dask.reprocess import reprocess, what_would_be_reused
from cwt_dask.run import plan_survey
from cwt_dask.simulate import simulate
from cwt_dask.survey import ingest

# The demo's small sister: its settings, on a map of four tiles, and fewer iterations.
OPTIONS = {"n_scale": 3, "min_scale": 1.2, "step_scale": 1.5, "significance_threshold": 5.0, "tile_size": 48}
OPTIONS |= {"max_iter": 4}
COMMAND = f"""
import sys
from cwt_dask.cli.main import main

options = [f"--{{name.replace('_', '-')}}={{value}}" for name, value in {OPTIONS}.items()]
sys.argv = ["cwt-dask", "run", "../survey.fits", "run", *options, *sys.argv[1:]]
sys.exit(main())
"""

OF_LIBRARIES = {
    "ZARR_DEFAULT_ZARR_FORMAT": "2",
    "ZARR_ARRAY__ORDER": "F",
    "ZARR_ARRAY__WRITE_EMPTY_CHUNKS": "True",
    "ZARR_ASYNC__CONCURRENCY": "1",
    "ZARR_THREADING__MAX_WORKERS": "3",
    "ZARR_JSON_INDENT": "7",
    "DASK_SCHEDULER": "processes",
    "DASK_ARRAY__CHUNK_SIZE": "1kiB",
    "DASK_LOGGING__DISTRIBUTED": "info",
    "DASK_DISTRIBUTED__WORKER__DAEMON": "False",
    "DASK_DISTRIBUTED__COMM__COMPRESSION": "zlib",
    "MPLBACKEND": "nonsense",
    "OMP_NUM_THREADS": "3",
    "OPENBLAS_NUM_THREADS": "3",
    "NUMBA_NUM_THREADS": "2",
    "BLOSC_NTHREADS": "3",
}
OF_THE_SYSTEM = {
    "TZ": "Pacific/Kiritimati",
    "FORCE_COLOR": "1",
    "TTY_COMPATIBLE": "1",
    "TERM": "xterm",
    "COLUMNS": "20",
    "LC_ALL": "C",
    # Memory that nothing was written to is not zero.
    "MALLOC_PERTURB_": "165",
}
OF_PYTHON = {
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "PYTHONHASHSEED": "7",
    "PYTHONUTF8": "0",
    "PYTHONUNBUFFERED": "1",
}
# Elsewhere or nowhere, and checked at each access.
OF_COMPILED_CODE = {
    "NUMBA_CACHE_DIR": "/proc/nowhere",
    "NUMBA_BOUNDSCHECK": "1",
    "NUMBA_CPU_NAME": "generic",
    "NUMBA_CPU_FEATURES": "",
    "HOME": "/proc/nowhere",
}
# In the user's home, and in the directory in which the command is given.
FILES = {
    ".astropy/config/astropy.cfg": """
unicode_output = True
max_lines = 5
[io.fits]
strip_header_whitespace = False
extension_name_case_sensitive = True
use_memmap = False
lazy_load_hdus = False
enable_record_valued_keyword_cards = False
enable_uint = False
[io.votable]
verify = exception
[table]
replace_warnings = always,
replace_inplace = True
[logger]
log_level = DEBUG
log_warnings = False
log_exceptions = True
""",
    ".config/dask/settings.yaml": "{scheduler: threads, array: {slicing: {split-large-chunks: true}}}",
    ".config/zarr/settings.yaml": "{default_zarr_format: 2, json_indent: 1, codec_pipeline: {batch_size: 3}}",
    ".numba_config.yaml": "{developer_mode: 1, captured_errors: old_style}",
    "matplotlibrc": "backend: nonsense",
}
# What a program sets before it calls.
IN_THE_PROCESS = """
import contextlib, decimal, locale, logging, multiprocessing, random, socket, warnings

import numpy as np
from astropy import log, units

np.seterr(all="raise")
np.set_printoptions(precision=2, threshold=3, suppress=True, nanstr="?", legacy="1.13")
warnings.simplefilter("error")
logging.basicConfig(filename="log", level=logging.DEBUG)
log.disable_warnings_logging()
logging.captureWarnings(True)
units.imperial.enable()
decimal.getcontext().prec = 3
multiprocessing.set_start_method("spawn")
with contextlib.suppress(locale.Error):
    # With a comma in numbers.
    locale.setlocale(locale.LC_ALL, "de_DE.UTF-8")

connect = socket.socket.connect

def connect_here(self, address):
    if self.family != socket.AF_UNIX and address[0] != "127.0.0.1":
        raise AssertionError(f"to the network: {address}")
    return connect(self, address)

socket.socket.connect = connect_here
"""
# Python imports it in each process: it is heard, in each of the ways, when a library is.
NOISE = """
import logging, os, sys

class Noise:
    def find_spec(self, name, *_):
        if name == "zarr":
            sys.meta_path.remove(self)
            print("noise of Python")
            os.write(1, b"noise of C\\n")
            logging.getLogger("noise").warning("noise of a log")

sys.meta_path.insert(0, Noise := Noise())
"""


class Done(NamedTuple):
    out: str
    err: str
    digest: str  # Of the maps.
    rows: list[str]  # Of the catalogue.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("settings")
    simulate(folder / "survey.fits", (60, 90), seed=1)
    if shutil.which("localedef"):
        subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", folder / "de_DE.UTF-8"], check=False)  # noqa: S607
    return folder


def carry_out(folder, name, *options, code=COMMAND, files=None, **environment):
    """The run, in a process with a home of its own."""
    home = folder / name
    for path, content in ({"empty": ""} if files is None else files).items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(content)
    plain = {name: value for name, value in os.environ.items() if name != "TERM"}
    path = os.pathsep.join([str(home), *filter(None, [plain.get("PYTHONPATH")])])
    variables = plain | {"HOME": str(home), "LOCPATH": str(folder), "PYTHONPATH": path} | environment
    done = subprocess.run(
        [sys.executable, "-c", code, *options], cwd=home, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in (home / "run/catalogue.ecsv").read_text().splitlines() if not line.startswith("#")]
    digest = json.loads((home / "run/certificate.json").read_text())["digest_maps"]
    assert (home / "run/report.html").exists()
    # Neither with its folder, nor with the pace, which long stages have.
    out = re.sub(r"^(.*: \d+ of \d+), .*$", r"\1", done.stdout.replace(str(home), ""), flags=re.MULTILINE)
    return Done(out, done.stderr, digest, rows)


@pytest.fixture(scope="module")
def expected(folder):
    done = carry_out(folder, "expected", "--workers=0")
    assert not done.err
    assert len(done.rows) > 1
    return done


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("libraries", OF_LIBRARIES | OF_THE_SYSTEM),
        ("files", OF_PYTHON | {"files": FILES}),
        ("program", {"code": IN_THE_PROCESS + COMMAND}),
        ("compiled", OF_COMPILED_CODE),
    ],
)
def test_the_command_finds_and_prints_the_same(folder, expected, name, settings):
    assert carry_out(folder, name, "--workers=0", **settings) == expected


def test_loops_that_are_not_compiled_find_the_same(tmp_path):
    # They take their time.
    simulate(tmp_path / "survey.fits", (36, 52), seed=1, n_sources=3)
    compiled, plain = (
        carry_out(tmp_path, name, "--workers=0", "--significance-threshold=4", NUMBA_DISABLE_JIT=name)
        for name in ("0", "1")
    )
    assert len(compiled.rows) > 1
    assert plain == compiled


def test_workers_find_the_same_and_their_libraries_are_heard_in_the_log(folder, expected):
    options = "--workers=1", "--log-format=json"
    files = FILES | {"sitecustomize.py": NOISE}
    done = carry_out(folder, "workers", *options, files=files, **OF_LIBRARIES, **OF_THE_SYSTEM, PYTHONWARNINGS="error")
    assert (done.err, done.digest, done.rows) == ("", expected.digest, expected.rows)
    events = [json.loads(line) for line in done.out.splitlines()]
    heard = [event["text"] for event in events if event["event"] == "log"]
    # By the command and by its worker.
    assert [heard.count(f"noise of {kind}") for kind in ("Python", "C", "a log")] == [2, 2, 2]
    assert events[-1]["event"] == "summary"


def test_a_program_finds_the_same_and_what_it_has_set_as_it_was(folder, expected):
    code = f"""
import copy, gc, os, signal, sys
{IN_THE_PROCESS}
import dask, distributed, zarr
from astropy import table
from astropy.io import fits
from cwt_dask import run_survey

def state():
    tables = dask.config.config, zarr.config.config, *(dict(each.items()) for each in (fits.conf, table.conf))
    of_numpy = np.geterr(), np.get_printoptions(), np.random.get_state(legacy=False)
    of_python = decimal.getcontext(), locale.setlocale(locale.LC_ALL), gc.get_threshold(), sys.path
    heard = [signal.getsignal(number) for number in signal.valid_signals()], logging.root.handlers, logging.root.level
    of_the_process = os.getcwd(), sys.stdout, sys.stderr, multiprocessing.get_start_method()
    return dict(enumerate(map(str, (*tables, *of_numpy, *of_python, *heard, *of_the_process)))) | os.environ

if __name__ == "__main__":
    before = state()
    run_survey("../survey.fits", "run", workers=1, **{OPTIONS})
    changed = set(before.items()) ^ set(state().items())
    sys.exit("\\n".join(map(str, changed)) or 0)
"""
    done = carry_out(folder, "script", code=code)
    assert done == expected._replace(out="")


def test_numpys_error_state_is_our_own_whatever_is_called(tmp_path):
    # Numbers whose squares vanish.
    survey = write_survey(tmp_path / "survey.fits", *(1e-200 * plane for plane in poisson_sky((40, 60), seed=3)))
    (tmp_path / "known.csv").write_text("ra,dec\n266,-29\n")
    with np.errstate(all="raise"):
        plan_survey(survey, n_scale=1, min_scale=1.2)
        store = ingest(survey, tmp_path / "survey.zarr").path
        run = run_survey(store, tmp_path / "run", n_scale=1, min_scale=1.2, max_iter=2, tile_size=40, workers=0)
        write_report(run)
        assert not [check for check in verify_run(run, recompute=1, against_whole=True) if check.broken]
        assert compare_runs(run, run).same_maps
        match_run(run, tmp_path / "known.csv", 0.2)
        run.cutout(None, 1 * u.deg)
        what_would_be_reused(survey, run.files.path)
        reprocess(survey, run.files.path, tmp_path / "new", workers=0)
        simulate(tmp_path / "simulated.fits", (40, 60), seed=1)
        assert np.geterr()["under"] == "raise"
