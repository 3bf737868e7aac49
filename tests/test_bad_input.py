"""Every row of docs/bad-input.md: the call that makes the mistake, the message, exit status 2, and nothing written."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from astropy.io import fits
from astropy.table import Table
from skies import poisson_sky, sky_header, write_survey

from cwt_dask.cli.commands import main

TABLE = Path(__file__).resolve().parents[1] / "docs" / "bad-input.md"
SHAPE = (45, 50)
KERNELS = ("--n-scale=1", "--min-scale=1.2", "--step-scale=1.5", "--max-iter=2")
RUN = ("run", "survey.fits", "out", "--workers=0", *KERNELS)
FINISHED = ("run", "survey.fits", "run", "--workers=0", *KERNELS)

CASES = {}


def case(what):
    """Register how a mistake of the table is made: a function of the folder that gives a command line."""

    def register(make):
        CASES[what] = make
        return make

    return register


def typed(what, *arguments):
    CASES[what] = lambda _: arguments


def rows():
    """The table's rows: what is wrong, message, what to do."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    cells = [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines]
    return [row for row in cells if row[0] not in ("what is wrong", "---")]


def tree(folder):
    """Every path below a folder, with the content of files."""
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


# --- survey files -----------------------------------------------------------------------------------------------------


def write(folder, counts=None, background=None, **cards):
    """Write survey.fits with other planes, or other cards in the header of the counts."""
    sky = poisson_sky(SHAPE, seed=3)
    planes = {
        "COUNTS": sky[0] if counts is None else counts,
        "BACKGROUND": sky[1] if background is None else background,
    }
    hdus = [fits.ImageHDU(plane, sky_header(SHAPE), name) for name, plane in planes.items()]
    hdus[0].header.update(cards)
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(folder / "survey.fits", overwrite=True)


def with_pixel(plane, value):
    def make(folder):
        planes = dict(zip(("counts", "background"), poisson_sky(SHAPE, seed=3), strict=True))
        planes[plane] = planes[plane].astype(float)
        planes[plane][7, 20] = value
        write(folder, **planes)
        return RUN

    return make


def with_bytes(old, new):
    """Replace bytes of the header of the counts."""

    def make(folder):
        content = (folder / "survey.fits").read_bytes()
        start = content.index(b"XTENSION")
        place = content.index(old, start)
        (folder / "survey.fits").write_bytes(content[:place] + new.ljust(len(old)) + content[place + len(old) :])
        return RUN

    return make


def with_file(content):
    def make(folder):
        (folder / "survey.fits").write_bytes(content)
        return RUN

    return make


typed("the survey does not exist", "run", "absent.fits", "out")
typed("the survey is a directory", "run", ".", "out")
CASES["it is empty"] = with_file(b"")
CASES["it is no FITS file"] = with_file(b"counts,background\n1,2\n")
CASES["a header has no end"] = with_bytes(b"END".ljust(80), b"")
CASES["a header says more than the file holds"] = with_bytes(b"NAXIS1  =                   50", b"NAXIS1  = 1000000000")
CASES["a header has other bytes than text"] = with_bytes(b"GLON-CAR", b"GL\xd6N-CAR")
CASES["a header has a number type that does not exist"] = with_bytes(b"BITPIX  =                   64", b"BITPIX  = 7")
CASES["a header counts what cannot be"] = with_bytes(b"NAXIS   =                    2", b"NAXIS   = 1000000000")
_CRVAL1 = b"CRVAL1  =                 10.0"
CASES["a number of the WCS is NaN"] = with_bytes(_CRVAL1, b"CRVAL1  = NaN")
CASES["a number of the WCS is a text"] = with_bytes(_CRVAL1, b"CRVAL1  = 'oops'")
CASES["a number of the WCS cannot be read"] = with_bytes(_CRVAL1, b"CRVAL1  = 184.5e")
CASES["a number of the WCS is infinite"] = with_bytes(_CRVAL1, b"CRVAL1  = 1e400")
CASES["a number of the WCS is absurdly large"] = with_bytes(_CRVAL1, b"CRVAL1  = 1e300")
CASES["counts are negative"] = with_pixel("counts", -3)
CASES["background is negative"] = with_pixel("background", -0.1)
CASES["counts are infinite"] = with_pixel("counts", np.inf)


@case("the file breaks off")
def _(folder):
    os.truncate(folder / "survey.fits", 20_000)
    return RUN


@case("all pixels are NaN")
def _(folder):
    write(folder, background=np.full(SHAPE, np.nan))
    return RUN


@case("images have different shapes")
def _(folder):
    write(folder, background=np.ones((44, 50)))
    return RUN


@case("a cube, and no plane chosen")
def _(folder):
    write(folder, counts=np.ones((3, *SHAPE)), background=np.ones((3, *SHAPE)))
    return RUN


@case("a plane that a cube does not have")
def _(folder):
    write(folder, counts=np.ones((3, *SHAPE)), background=np.ones((3, *SHAPE)))
    return *RUN, "--band=3"


@case("all stored values are scaled by 0")
def _(folder):
    write(folder, BSCALE=0)
    return RUN


@case("a scale that is no number")
def _(folder):
    write(folder, BSCALE="one")
    return RUN


@case("a coordinate system of too many axes")
def _(folder):
    write(folder, WCSAXES=10**9)
    return RUN


@case("no sky coordinates")
def _(folder):
    write(folder, CTYPE1="X", CTYPE2="Y")
    return RUN


@case("sky coordinates that make no sense")
def _(folder):
    write(folder, CTYPE1="GLON-QQQ", CTYPE2="GLAT-QQQ")
    return RUN


@case("pixels without a size")
def _(folder):
    write(folder, CDELT1=-1e-30, CDELT2=1e-30)
    return RUN


@case("counts and background show different sky")
def _(folder):
    write(folder, CRVAL1=11.0)
    return RUN


@case("a table where an image is needed")
def _(folder):
    fits.append(folder / "survey.fits", Table({"a": [1]}).as_array(), fits.Header({"EXTNAME": "EVENTS"}))
    return *RUN, "--counts-hdu=EVENTS"


@case("two images, and no name that tells which")
def _(folder):
    hdus = [fits.ImageHDU(np.ones(SHAPE), name=name) for name in ("ON", "OFF")]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(folder / "both.fits")
    return *RUN, "--background=both.fits"


@case("two images of one name")
def _(folder):
    fits.append(folder / "survey.fits", np.ones(SHAPE), fits.Header({"EXTNAME": "counts"}))
    return RUN


typed("no HDU of that name", *RUN, "--counts-hdu=N_ON")
typed("a plane chosen of a single image", *RUN, "--band=1")
typed("a band that is no number", *RUN, "--band=first")

# --- options ----------------------------------------------------------------------------------------------------------


def with_config(content, *, but=""):
    """The usual call, but for one of its words, and a configuration file."""

    def make(folder):
        (folder / "config.toml").write_bytes(content)
        return *(word for word in RUN if word != but), "--config=config.toml"

    return make


typed("an option that does not exist", *RUN, "--significance-treshold=3")
CASES["a setting that does not exist"] = with_config(b"significance_treshold = 3")
CASES["a setting of the wrong type"] = with_config(b'tol = "small"')
CASES["an address that is no text"] = with_config(b"scheduler = 8786")
CASES["a file name that is no text"] = with_config(b"scheduler_file = 5")
CASES["a cluster of no known kind"] = with_config(b'[cluster]\nkind = "pbs"')
CASES["an option of the cluster beside its options"] = with_config(b'[cluster]\nkind = "slurm"\nqueue = "long"')
CASES["a cluster by address without one"] = with_config(b'cluster = "address"')
CASES["a cluster of pods without consent"] = with_config(b'[cluster]\nkind = "kubernetes"', but="--workers=0")
CASES["jobs without a number"] = with_config(b'cluster = "slurm"', but="--workers=0")
CASES["a settings file that is not TOML"] = with_config(b"n_scale = \xff")
typed("a settings file that does not exist", *RUN, "--config=absent.toml")
typed("a word where a number is needed", *RUN, "--n-scale=two")
typed("a number out of its range", *RUN, "--step-scale=1")
typed("a number that is none", *RUN, "--tol=nan")
typed("a number that is too large", *RUN, "--margin=9999999999")
typed("no angle", *RUN, "--min-scale=0.6parsec")
typed("a radius that is none", "match", "run", "known.fits", "--radius=20")


@case("a table that a catalogue does not have")
def _(folder):
    Table({"ra": [1.0], "dec": [0.0]}).write(folder / "known.fits")
    return "match", "run", "known.fits[2]"


@case("a catalogue without positions")
def _(folder):
    Table({"x": [1.0]}).write(folder / "known.fits")
    return "match", "run", "known.fits"


@case("a catalogue of blank positions")
def _(folder):
    Table({"ra": ["--"], "dec": [""]}).write(folder / "known.fits")
    return "match", "run", "known.fits"


typed("no size", *RUN, "--memory-limit=lots")
typed("too many scales", *RUN, "--n-scale=100", "--step-scale=1.01")
typed("scales in the wrong unit", *RUN, "--min-scale=200deg")
typed("scales too fine", *RUN, "--min-scale=0.1")
typed("tiles larger than the memory", *RUN, "--memory-limit=1MiB")
typed("options that exclude each other", *RUN, "--scheduler=tcp://a:1", "--scheduler-file=b")
typed("an address of no known kind", *RUN, "--scheduler=htp://a:1")
typed("a scheduler file that does not exist", *RUN, "--scheduler-file=absent.json")

# --- run directories and stores ---------------------------------------------------------------------------------------


def with_run_toml(old, new):
    def make(folder):
        path = folder / "run" / "run.toml"
        path.write_text(path.read_text().replace(old, new))
        return "status", "run"

    return make


def with_store(**attributes):
    """Make a store of the finished run's with other attributes."""

    def make(folder):
        zarr.open_group(folder / "run" / "survey.zarr", mode="r+").attrs.update(attributes)
        return "plan", "run/survey.zarr", *KERNELS

    return make


@case("RUN_DIR is a file")
def _(folder):
    (folder / "out").write_text("mine")
    return RUN


@case("RUN_DIR holds other files, and no run")
def _(folder):
    (folder / "out").mkdir()
    (folder / "out" / "thesis.tex").write_text("mine")
    return *RUN, "--overwrite"


@case("RUN_DIR is below a file")
def _(folder):
    (folder / "file").write_text("mine")
    return "run", "survey.fits", "file/out", *KERNELS


typed("RUN_DIR has a name that nothing can have", "run", "survey.fits", "x" * 300, *KERNELS)


@case("RUN_DIR holds the run of another survey")
def _(folder):
    write(folder, counts=np.ones(SHAPE, dtype=np.int64))
    return FINISHED


typed("RUN_DIR holds a run under other settings", *FINISHED, "--tol=0.1")
typed("the survey lies in the run that is overwritten", "run", "run/survey.zarr", "run", "--overwrite", *KERNELS)
typed("the history of a run that keeps none", *FINISHED, "--keep-history")
typed("no run at all", "status", "absent")
CASES["a damaged run.toml"] = with_run_toml("[plan]", "[plan")
CASES["a changed run.toml"] = with_run_toml("max_iter = 2", "max_iter = 3")


@case("a run that is not finished")
def _(folder):
    (folder / "run" / "certificate.json").unlink()
    return "verify", "run"


@case("no tile to verify")
def _(_):
    return "verify", "run", "--recompute=0"


typed("reprocessing a run into itself", "reprocess", "survey.fits", "run", "run")
CASES["a Zarr group that is no survey"] = with_store(kind="other")
CASES["a store of another version"] = with_store(version=1)
CASES["a store whose description is damaged"] = with_store(facts={"shape": 5})


@case("a store whose file is damaged")
def _(folder):
    (folder / "run" / "survey.zarr" / "zarr.json").write_text(json.dumps([]))
    return "plan", "run/survey.zarr", *KERNELS


@case("a store of which a plane's description is damaged")
def _(folder):
    (folder / "run" / "survey.zarr" / "counts" / "zarr.json").write_text("x")
    return "plan", "run/survey.zarr", *KERNELS


typed("a plane chosen of a store", "plan", "run/survey.zarr", "--counts-hdu=1", *KERNELS)
typed("a store's name is taken", "ingest", "survey.fits", "run")
SIMULATE = ("simulate", "sky.fits", "--seed=1", "--shape")
typed("more simulated sources than pixels", *SIMULATE, "9", "9", "--sources=99999")
typed("a simulation larger than the disk", *SIMULATE, "99999999", "99999999")


# --- the tests --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A survey, and a finished run on it; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("bad") / "folder"
    folder.mkdir()
    write_survey(folder / "survey.fits", *poisson_sky(SHAPE, seed=3))
    assert main(["run", str(folder / "survey.fits"), str(folder / "run"), "--workers=0", "--quiet", *KERNELS]) == 0
    return folder


def test_the_table_has_every_case_once():
    assert sorted(what for what, _, _ in rows()) == sorted(CASES)


@pytest.mark.parametrize(("what", "message", "remedy"), rows(), ids=[row[0] for row in rows()])
def test_a_mistake_is_refused_as_the_table_says(capsys, monkeypatch, tmp_path, folder, what, message, remedy):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    arguments = CASES[what](tmp_path)
    capsys.readouterr()
    before = tree(tmp_path)
    status = main(list(arguments))
    said = capsys.readouterr().err
    expected = ".*".join(map(re.escape, message.strip("`").split("...")))
    assert re.fullmatch(f"cwt-dask: {expected}\n", said), said
    assert status == 2
    assert tree(tmp_path) == before
    assert remedy
