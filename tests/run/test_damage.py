"""Whatever happened to a run directory: it is asked and gone on with, or refused by a named error."""

import json
import math
import shutil
import tomllib
from contextlib import suppress
from dataclasses import asdict

import hypothesis
import pytest
import tomli_w
from fuzzing import SHAPE, as_for_users, settings
from hypothesis import given
from hypothesis import strategies as st
from reporters import DiesAt, InterruptedRunError
from skies import poisson_sky, write_survey

from cwt_dask import run_survey
from cwt_dask.cli.commands import main
from cwt_dask.errors import CwtDaskError
from cwt_dask.storage.driver import Driver, read_driver
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import last_failures, read_records, record_failure

OPTIONS = {"n_scale": 1, "min_scale": 1.2, "step_scale": 1.5, "tol": 1e-9, "tile_size": 45, "workers": 0}


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return write_survey(tmp_path_factory.mktemp("fuzz") / "survey.fits", *poisson_sky(SHAPE, seed=3))


@pytest.fixture(scope="module")
def finished(survey, tmp_path_factory):
    """A run that is done, with a failure on record; to be copied, not changed."""
    path = tmp_path_factory.mktemp("finished") / "run"
    ended = main(["run", str(survey), str(path), *COMMAND, "--max-iter=3"])
    assert ended == 0
    (path / "driver.json").write_text(json.dumps(asdict(Driver.this())))
    (path / "islands" / "open-block-00003.json").write_text("[]")
    record_failure(RunDir(path), 1, "tiles", ValueError("of a test"))
    return path


@pytest.fixture
def readable(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture(scope="module")
def interrupted(survey, tmp_path_factory):
    """A run between two blocks of iterations."""
    path = tmp_path_factory.mktemp("interrupted") / "run"
    with suppress(InterruptedRunError):
        run_survey(survey, path, max_iter=8, progress=DiesAt("tiles, iterations 3", 1), **OPTIONS)
    return path


hostile = st.sampled_from(
    ["../../x", "", "0", -1, 0, 1, 2.5, 10**9, 10**400, math.nan, math.inf, None, True, [], [[]], {}, {"model": "zz"}]
)
damages = (
    st.tuples(st.just("bytes"), st.floats(0, 1), st.binary(max_size=9))
    | st.tuples(
        st.just("all"), st.just(0), st.binary(max_size=99) | st.sampled_from([b"null", b"[]", b"{}", b"[" * 10**5])
    )
    | st.tuples(st.just("cut"), st.floats(0, 1), st.none())
    | st.tuples(st.just("value"), st.integers(0, 99), hostile)
)


def places_in(document):
    """Every table or list in a document with each of its keys."""
    for key in list(document) if isinstance(document, dict) else range(len(document)):
        yield document, key
        if isinstance(document[key], dict | list):
            yield from places_in(document[key])


def damage(path, how):
    """Put one thing in a file wrong."""
    what, where, value = how
    content = path.read_bytes()
    if what == "value" and path.suffix in (".json", ".toml"):
        document = json.loads(content) if path.suffix == ".json" else tomllib.loads(content.decode())
        places = list(places_in(document)) or [([value], 0)]
        table, key = places[where % len(places)]
        table[key] = value
        with suppress(TypeError):  # TOML has no null
            path.write_text(json.dumps(document) if path.suffix == ".json" else tomli_w.dumps(document))
    elif what == "all":
        path.write_bytes(value)
    elif what == "bytes":
        place = int(where * len(content))
        path.write_bytes(content[:place] + value + content[place + len(value) :])
    else:
        path.write_bytes(content[: int(where * len(content)) if what == "cut" else -1])


KERNELS = ("--n-scale=1", "--min-scale=1.2", "--step-scale=1.5", "--tol=1e-9")
COMMAND = (*KERNELS, "--fits=no", "--workers=0", "--tile-size=45", "--quiet")
LEDGER = ("ledger/run-id", "ledger/tile-0000001.json", "ledger/tile-0000001.failed-00001.json")
ISLANDS = ("islands/tile-0000001.npy", "islands/open-block-00003.json")
STORES = (
    "maps.zarr",
    "maps.zarr/model",
    "maps.zarr/support",
    "seams.zarr",
    "seams.zarr/own_model",
    "survey.zarr/counts",
)
DESCRIPTIONS = tuple(f"{store}/zarr.json" for store in (*STORES, "survey.zarr"))
OF_A_RUN = ("run.toml", "certificate.json", "driver.json", "catalogue.ecsv", "catalogue.fits", *LEDGER, *ISLANDS)
UNDER_WAY = ("checkpoints/*/*.npz", "checkpoints/*/*.npy", "ledger/*.block-*.json")


def ends_well(capsys, *arguments):
    with as_for_users():
        status = main([str(argument) for argument in arguments])
    assert status in (0, 1, 2), capsys.readouterr().err


def asked_and_gone_on_with(capsys, survey, run_dir, max_iter):
    """Ask a damaged run everything that can be asked, and go on with it; nothing may appear beside it."""
    ends_well(capsys, "status", run_dir)
    ends_well(capsys, "verify", run_dir)
    ends_well(capsys, "run", survey, run_dir, *COMMAND, f"--max-iter={max_iter}")
    assert [path.name for path in run_dir.parent.iterdir()] == [run_dir.name]


@hypothesis.settings(settings, max_examples=100)
@given(name=st.sampled_from([*OF_A_RUN, *LEDGER]), how=damages)
def test_whatever_is_read_of_a_run(readable, capsys, name, how):
    content = (readable / name).read_bytes()
    try:
        damage(readable / name, how)
        ends_well(capsys, "status", readable)
        for read in (read_records, lambda ledger: last_failures(RunDir(ledger.parent))):
            with suppress(CwtDaskError):
                read(readable / "ledger")
        read_driver(RunDir(readable))
    finally:
        (readable / name).write_bytes(content)


@hypothesis.settings(settings, max_examples=25)
@given(name=st.sampled_from(OF_A_RUN) | st.sampled_from(DESCRIPTIONS), how=damages)
def test_whatever_happened_to_a_finished_run(survey, finished, tmp_path_factory, capsys, name, how):
    run_dir = shutil.copytree(finished, tmp_path_factory.mktemp("copy") / "run")
    damage(run_dir / name, how)
    asked_and_gone_on_with(capsys, survey, run_dir, 3)
    shutil.rmtree(run_dir)


@hypothesis.settings(settings, max_examples=10)
@given(pattern=st.sampled_from(UNDER_WAY), how=damages)
def test_whatever_happened_to_a_run_under_way(survey, interrupted, tmp_path_factory, capsys, pattern, how):
    run_dir = shutil.copytree(interrupted, tmp_path_factory.mktemp("copy") / "run")
    damage(max(run_dir.glob(pattern)), how)
    asked_and_gone_on_with(capsys, survey, run_dir, 8)
    shutil.rmtree(run_dir)
