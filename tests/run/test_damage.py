"""Whatever happened to a run directory: it is asked and gone on with, or refused by a named error."""

import json
import math
import random
import re
import shutil
import tomllib
from contextlib import suppress

import hypothesis
import pytest
import tomli_w
from astropy.table import Table
from cases import EVERY
from flips import TABLE, drawn, flip_one, noted, table
from fuzzing import SHAPE, as_for_users, settings
from hypothesis import given
from hypothesis import strategies as st
from reporters import DiesAt, InterruptedRunError
from skies import EXPOSURE, poisson_sky, write_survey
from work import digests, starts

from cwt_dask import SurveyRun, run_survey
from cwt_dask.assess import assess
from cwt_dask.cli.commands import main
from cwt_dask.errors import CwtDaskError
from cwt_dask.inspection.match import associate, match_run
from cwt_dask.inspection.measure import measure
from cwt_dask.inspection.measured import keep_measured
from cwt_dask.inspection.verify import RECOMPUTED, verify_run
from cwt_dask.report import write_report
from cwt_dask.report.pyramid import damaged_pyramid
from cwt_dask.runtime.progress import Reporter
from cwt_dask.storage.driver import Driver, read_driver
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import last_failures, read_all_records, read_records, record_failure
from cwt_dask.storage.marks import note_user
from cwt_dask.storage.zarr_io import parsed

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
    (path / "driver.json").write_bytes(Driver.this().content)
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


@hypothesis.settings(settings, max_examples=100 if EVERY else 40)
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


@hypothesis.settings(settings, max_examples=25 if EVERY else 12)
@given(name=st.sampled_from(OF_A_RUN) | st.sampled_from(DESCRIPTIONS), how=damages)
def test_whatever_happened_to_a_finished_run(survey, finished, tmp_path_factory, capsys, name, how):
    run_dir = shutil.copytree(finished, tmp_path_factory.mktemp("copy") / "run")
    damage(run_dir / name, how)
    asked_and_gone_on_with(capsys, survey, run_dir, 3)
    shutil.rmtree(run_dir)


@hypothesis.settings(settings, max_examples=10 if EVERY else 5)
@given(pattern=st.sampled_from(UNDER_WAY), how=damages)
def test_whatever_happened_to_a_run_under_way(survey, interrupted, tmp_path_factory, capsys, pattern, how):
    run_dir = shutil.copytree(interrupted, tmp_path_factory.mktemp("copy") / "run")
    damage(max(run_dir.glob(pattern)), how)
    asked_and_gone_on_with(capsys, survey, run_dir, 8)
    shutil.rmtree(run_dir)


# Flips of one bit or one digit: found by `verify` by the file's name, and either mended by the run's own command, or
# refused by a message that names a file.
FLIPS = {"workers": 0, "fits": "yes", "n_scale": 1, "min_scale": 1.2, "step_scale": 1.5, "tile_size": 30, "max_iter": 4}
FLIPS |= {"tol": 0, "significance_island_threshold": 4.0, "keep_history": True}
# These are looked at before others, which are not looked at then.
FIRST = r"^(run\.toml|certificate\.json|ledger/tile-N\.json|maps\.zarr/pyramid/zarr\.json)$"


@pytest.fixture(scope="module")
def exposed(tmp_path_factory):
    path = tmp_path_factory.mktemp("flips") / "survey.fits"
    return write_survey(path, *poisson_sky((60, 50), seed=3), exposure=EXPOSURE)


@pytest.fixture(scope="module")
def matched(exposed):
    """A run with all that one can have: history, FITS files, report, what was measured of it and at given positions,
    associations, a failure, a user of its survey."""
    run = run_survey(exposed, exposed.with_name("run"), **FLIPS)
    keep_measured(run, measure(run.files.path, run.catalogue[:1]))
    assess(run.files.path, nulls=1, injections=1, workers=0)
    run = SurveyRun.open(run.files.path)
    Table({"ra": run.catalogue["ra"][:1], "dec": run.catalogue["dec"][:1]}).write(exposed.with_name("known.ecsv"))
    associate(run, match_run(run, exposed.with_name("known.ecsv"), 0.1))
    write_report(run)
    record_failure(run.files, 1, "tiles", ValueError("of a test"))
    note_user(RunDir(exposed.with_name("other")), run.files.survey, "0" * 32)
    return run


def result_of(run):
    """What a run has found, and what it promises."""
    rows = run.catalogue
    columns = [name for name in rows.colnames if not name.startswith("assoc")]
    promised = {name: run.certificate[name] for name in RECOMPUTED}
    return promised, [list(map(str, row)) for row in rows[columns]], digests(run), run.wcs.to_header_string()


def faults_of(run_dir):
    """What `verify` says, or the error that it ends with."""
    try:
        checks = list(verify_run(SurveyRun.open(run_dir)))
    except CwtDaskError as error:
        return str(error)
    return "; ".join(check.fault for check in checks if check.broken)


def is_named(path, run_dir, said):
    # Of the history it is said which tile's.
    name = re.sub(r"history_model/c/\d+", "history_model/c/*", str(path))
    return name in said or (name.endswith(f"{run_dir.name}/survey.zarr/zarr.json") and str(path.parent) in said)


def is_harmless(path, sound):
    """Whether the same is read of it: with 17 digits, more than one last digit may stand for one number."""
    with suppress(Exception):
        if path.name == "zarr.json":
            return parsed(path.read_bytes()) == parsed(sound)
        return json.dumps(json.loads(path.read_bytes())) == json.dumps(json.loads(sound))
    return False


def test_another_last_digit_of_one_number_is_harmless_and_any_other_is_not(tmp_path):
    (path := tmp_path / "certificate.json").write_text('{"seconds": 0.13436424411240122}')
    assert is_harmless(path, b'{"seconds": 0.13436424411240121}')
    assert not is_harmless(path, b'{"seconds": 0.13436424411240132}')


def gone_on_with(survey, run_dir, expected, **options):
    """Give the run's own command until it ends; the messages of those that were refused, which name a file."""
    refused = []
    while len(refused) < 6:
        try:
            run = run_survey(survey, run_dir, **FLIPS | options)
        except CwtDaskError as error:
            refused.append(str(error))
            assert re.search(rf"{re.escape(str(run_dir.parent))}/\S+", refused[-1]), refused[-1]
            if "get the file back from a copy, or choose another directory" in refused[-1]:
                # No record shows any more that the run was made by this command.
                return refused
            continue
        assert result_of(run) == expected, refused
        # What was damaged after it was read last is found, and mended the next time.
        if faults_of(run_dir):
            run = run_survey(survey, run_dir, **FLIPS | options)
            assert result_of(run) == expected
        assert not faults_of(run_dir)
        return refused
    raise AssertionError(refused)


@pytest.mark.usefixtures("reported")
# Odd ones damage the survey, too.
@pytest.mark.parametrize("seed", range(10 if EVERY else 2))
def test_flips_in_a_finished_run_are_found_and_mended(exposed, matched, tmp_path, seed):
    dice, expected = random.Random(seed), result_of(matched)  # noqa: S311
    run_dir = tmp_path / "run"
    shutil.copytree(matched.files.path, run_dir)
    files = RunDir(run_dir)
    for path in [files.settings, files.certificate, files.record(seed % 4), files.pyramid / "zarr.json"] * 6:
        before = flip_one(path, dice)
        try:
            _ = SurveyRun.open(run_dir).certificate
            said = f"{read_all_records(files.ledger)[1]} {damaged_pyramid(SurveyRun.open(run_dir))}"
        except CwtDaskError as error:
            said = str(error)
        harmless = is_harmless(path, before)
        assert harmless or str(path) in said
        noted(run_dir, [path], "harmless" if harmless else "found")
        path.write_bytes(before)
    # Of the survey one file, and nothing that describes maps: what describes the survey is looked at first.
    of_survey = drawn(run_dir, dice, 1, r"^(?!survey)") if seed % 2 else []
    leave_out = f"{FIRST}|^survey|^users{'|zarr.json' * (seed % 2)}"
    paths = [*of_survey, *drawn(run_dir, dice, 40, leave_out)]
    sound = {path: flip_one(path, dice) for path in paths}
    said = faults_of(run_dir)
    for path in paths:
        harmless = is_harmless(path, sound[path])
        assert harmless or is_named(path, run_dir, said), (path, said)
        noted(run_dir, [path], "harmless" if harmless else "found")
    assert gone_on_with(exposed, run_dir, expected) == []
    noted(run_dir, paths, "mended")


@pytest.mark.parametrize("seed", range(5))
def test_flips_in_an_unfinished_run_are_mended_or_refused(exposed, matched, tmp_path, seed):
    dice, run_dir = random.Random(seed), tmp_path / "run"  # noqa: S311
    stages = "tiles, iterations 3", "islands over seams", "publishing tiles", "sources", "tiles, iterations 1"
    with suppress(InterruptedRunError):
        run_survey(exposed, run_dir, progress=DiesAt(stages[seed % 5], 2), **FLIPS)
    paths = drawn(run_dir, dice, 40, "^lock$")
    for path in paths:
        flip_one(path, dice)
    refused = gone_on_with(exposed, run_dir, result_of(matched))
    noted(run_dir, paths, f"unfinished: {'refused, then mended' if refused else 'mended'}")


class FlipsAt(Reporter):
    """Files are damaged while a run goes on, before a tile is counted."""

    def __init__(self, run_dir, dice):
        self.run_dir, self.dice, self.paths = run_dir, dice, []

    def track(self, outcomes, stage, total):  # noqa: ARG002 - as the reporter's
        for outcome in outcomes:
            if self.dice.random() < 0.2:
                paths = drawn(self.run_dir, self.dice, 2, "^lock$")
                for path in paths:
                    flip_one(path, self.dice)
                self.paths += paths
            yield outcome

    def message(self, text):
        pass


@pytest.mark.parametrize("seed", range(10 if EVERY else 2))
def test_flips_during_a_run_are_mended_or_refused(exposed, matched, tmp_path, seed):
    run_dir = tmp_path / "run"
    flips = FlipsAt(run_dir, random.Random(seed))  # noqa: S311
    for _ in range(4):
        with suppress(CwtDaskError):
            run = run_survey(exposed, run_dir, progress=flips, **FLIPS)
            assert result_of(run) == result_of(matched), flips.paths
    refused = gone_on_with(exposed, run_dir, result_of(matched))
    noted(run_dir, flips.paths, f"in a run: {'refused, then mended' if refused else 'mended'}")


# Files of other runs, whole and valid, in the place of a run's own.
PRODUCTS = (*(f"catalogue.{suffix}" for suffix in ("ecsv", "fits", "vot", "reg")), "maps.fits", "associations.ecsv")
FOREIGN = {
    "what a certificate covers": ("certificate.json", *PRODUCTS),
    "report": ("report.html",),
    "reduced maps": ("maps.zarr/pyramid",),
    "failure": ("ledger/tile-0000001.failed-00001.json",),
    "run.toml": ("run.toml",),
    "run.toml and run-id": ("run.toml", "ledger/run-id"),
    "record": ("ledger/tile-0000001.json",),
    "ledger": ("ledger",),
    "maps": ("maps.zarr",),
    "islands": ("islands",),
    "survey": ("survey.zarr",),
    "the survey's checksums": ("survey.zarr/chunk_checksums",),
}
# They hold what only their own tiles can make again.
OF_TILES = {"record", "ledger", "maps", "islands"}
OTHERS = {"twin": {}, "settings": {"significance_threshold": 4.5}, "survey": {}}
# What is the same in both.
SAME = {(what, "twin") for what in ("reduced maps", "maps", "survey", "the survey's checksums")}
SAME |= {("survey", "settings"), ("the survey's checksums", "settings")}


SWAPS = [
    (what, other)
    for number, what in enumerate(FOREIGN)
    for others in [[other for other in OTHERS if (what, other) not in SAME]]
    # Of the others by turns; the ledger is of one that it does not fit.
    for other in (others if EVERY else [others[number % len(others)]])
]


@pytest.fixture(scope="module")
def others(exposed, tmp_path_factory):
    """Runs that differ from `matched` in nothing, in a setting, in the survey."""
    folder = tmp_path_factory.mktemp("others")
    surveys = dict.fromkeys(OTHERS, exposed)
    surveys["survey"] = write_survey(folder / "survey.fits", *poisson_sky((60, 50), seed=4), exposure=EXPOSURE)
    found = {name: run_survey(surveys[name], folder / name, **FLIPS | more) for name, more in OTHERS.items()}
    for run in found.values():
        Table({"ra": run.catalogue["ra"][:1], "dec": run.catalogue["dec"][:1]}).write(folder / "known.ecsv")
        associate(run, match_run(run, folder / "known.ecsv", 0.1))
        (folder / "known.ecsv").unlink()
        write_report(run)
        record_failure(run.files, 1, "tiles", ValueError("of a test"))
    return {name: run.files.path for name, run in found.items()}


def contents(path):
    """What is below a path, by name."""
    return {
        str(file.relative_to(path.parent)): file.read_bytes() for file in (path, *path.rglob("*")) if file.is_file()
    }


def put(path, other):
    """Put another run's file or folder into a path; whether it differs."""
    if contents(path) == contents(other):
        return False
    if path.is_dir():
        shutil.rmtree(path)
        shutil.copytree(other, path)
    else:
        shutil.copy(other, path)
    return True


@pytest.mark.usefixtures("reported")
@pytest.mark.parametrize(("what", "other"), SWAPS)
def test_files_of_another_run_are_found_and_replaced(exposed, matched, others, tmp_path, what, other):
    run_dir, expected = shutil.copytree(matched.files.path, tmp_path / "run"), result_of(matched)
    paths = [run_dir / name for name in FOREIGN[what] if put(run_dir / name, others[other] / name)]
    assert paths
    said = faults_of(run_dir)
    assert any(f"{path}" in said for path in paths), said
    noted(run_dir, paths, "found")
    before = starts(SurveyRun.open(matched.files.path))
    refused = gone_on_with(exposed, run_dir, expected)
    # Its records are of another survey or settings: nothing shows that what lies there is of this run.
    assert bool(refused) == (what == "ledger" and other != "twin"), refused
    if what not in OF_TILES:
        # Not by a tile that was done again.
        assert starts(SurveyRun.open(run_dir)) == before
    noted(run_dir, paths, "refused" if refused else "mended")


@pytest.mark.parametrize("other", OTHERS)
def test_files_of_another_unfinished_run_are_replaced(exposed, matched, others, tmp_path, other):
    run_dir, expected = tmp_path / "run", result_of(matched)
    survey = others["survey"].with_name("survey.fits") if other == "survey" else exposed
    for path, of, more in ((run_dir, exposed, {}), (tmp_path / "other" / "run", survey, OTHERS[other])):
        with suppress(InterruptedRunError):
            run_survey(of, path, progress=DiesAt("tiles, iterations 4", 2), **FLIPS | more)
    dice, kinds = random.Random(other), "^lock$|^run|^users"  # noqa: S311
    paths = [
        path for path in drawn(run_dir, dice, 30, kinds) if (tmp_path / "other" / path.relative_to(tmp_path)).exists()
    ]
    paths = [path for path in paths if put(path, tmp_path / "other" / path.relative_to(tmp_path))]
    assert len(paths) > 5
    assert gone_on_with(exposed, run_dir, expected) == []
    noted(run_dir, paths, "mended")


@pytest.fixture(scope="module", autouse=True)
def _shown():
    """Print what became of all flips, for docs/reliability.md: `pytest -s`."""
    yield
    if TABLE:
        print(f"\n{table()}")  # noqa: T201 - it is asked for
