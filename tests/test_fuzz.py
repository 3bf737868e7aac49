"""Whatever users, files and dying machines hand in: it is taken, or refused by a named error, and leaves nothing."""

import ast
import json
import math
import shutil
import tomllib
import tracemalloc
import warnings
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from pathlib import Path

import hypothesis
import pytest
import tomli_w
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from interruptions import DiesAt, InterruptedRunError
from skies import poisson_sky, write_survey

import cwt_dask
from cwt_dask import run_survey
from cwt_dask.cli import main
from cwt_dask.config import Settings
from cwt_dask.errors import CwtDaskError, InputError
from cwt_dask.execution import Execution
from cwt_dask.layout import RunDir
from cwt_dask.ledger import last_failures, read_records, record_failure
from cwt_dask.lock import Driver, read_driver
from cwt_dask.options import SOURCE_OPTIONS
from cwt_dask.survey import SurveySource, ingest, scan

SHAPE = (45, 50)
OPTIONS = {"n_scale": 1, "min_scale": 1.2, "step_scale": 1.5, "tol": 1e-9, "tile_size": 45, "workers": 0}
# Far above what so small a survey takes, far below what hostile headers ask for.
MOST_MEMORY = 100 * 2**20

settings = hypothesis.settings(
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)


def tree(folder):
    """Every path below a folder, with the content of files."""
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@contextmanager
def as_for_users():
    """Warnings of astropy are no errors outside of tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# --- settings ---------------------------------------------------------------------------------------------------------

NAMES = [field.name for kind in (Settings, Execution) for field in fields(kind)]
numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([0, -1, 2**31, 2**63, 10**30, 10**400, math.nan, math.inf, -math.inf, 1e308, 5e-324, 1 + 2**-52])
)
texts = st.text(max_size=20) | st.sampled_from(
    [
        "auto",
        "yes",
        "fixed",
        "0.6deg",
        "1 deg(1/0)",
        "1e999deg",
        "-1deg",
        "nanGiB",
        "1e400GiB",
        "9" * 5000,
        "x" * 300,
        "\0",
    ]
)
leaves = numbers | texts | st.booleans() | st.dates() | st.times()
values = leaves | st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=5
)


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return write_survey(tmp_path_factory.mktemp("fuzz") / "survey.fits", *poisson_sky(SHAPE, seed=3))


@pytest.fixture
def planned(survey, capsys):
    """Plan by the command line, and check how it ends."""

    def plan(*arguments):
        before = tree(survey.parent)
        with as_for_users():
            status = main(["plan", str(survey), *arguments])
        said = capsys.readouterr().err
        assert status in (0, 2), said
        assert said.count("\n") == (1 if status else 0)
        assert tree(survey.parent) == before

    return plan


@settings
@given(st.dictionaries(st.sampled_from([*NAMES, *SOURCE_OPTIONS]) | texts, values, min_size=1, max_size=4))
def test_whatever_a_configuration_file_holds(planned, tmp_path, content):
    with suppress(UnicodeEncodeError):  # half a character is no text
        (tmp_path / "config.toml").write_text(tomli_w.dumps(content), encoding="utf-8")
        planned("--config", str(tmp_path / "config.toml"))


@settings
@given(st.sampled_from(NAMES), values)
def test_whatever_one_setting_is(planned, tmp_path, name, value):
    with suppress(UnicodeEncodeError):
        (tmp_path / "config.toml").write_text(tomli_w.dumps({name: value}), encoding="utf-8")
        planned("--config", str(tmp_path / "config.toml"))


@settings
@given(st.binary(max_size=200) | st.sampled_from([b"a = " + b"[" * 10_000, b"n_scale = 0x" + b"f" * 5000]))
def test_whatever_bytes_a_configuration_file_is(planned, tmp_path, content):
    (tmp_path / "config.toml").write_bytes(content)
    planned("--config", str(tmp_path / "config.toml"))


@settings
@given(st.lists(st.tuples(st.sampled_from([*NAMES, *SOURCE_OPTIONS]), values), min_size=1, max_size=4))
def test_whatever_is_typed(planned, options):
    planned(*(f"--{name.replace('_', '-')}={value}" for name, value in options))


# --- survey files -----------------------------------------------------------------------------------------------------


def card(keyword, value):
    return f"{keyword:<8}= {value}".encode("latin-1", "replace").ljust(80)[:80]


KEYWORDS = [
    *("SIMPLE", "XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "PCOUNT", "GCOUNT", "EXTEND", "GROUPS"),
    *("BSCALE", "BZERO", "BLANK", "TFIELDS", "TFORM1", "EXTNAME", "EXTVER", "ZIMAGE", "ZCMPTYPE", "ZBITPIX", "ZNAXIS1"),
    *("ZNAXIS2", "ZTILE1", "ZTILE2", "ZSCALE", "ZZERO", "ZBLANK", "ZQUANTIZ", "THEAP", "ZNAXIS", "END"),
    *("CTYPE1", "CTYPE2", "CUNIT1", "CUNIT2", "CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2", "CDELT1", "CDELT2", "PC1_1"),
    *("PC1_2", "CD1_1", "CROTA2", "PV2_1", "PV2_2", "LONPOLE", "LATPOLE", "RADESYS", "EQUINOX", "MJD-OBS", "DATE-OBS"),
    *("WCSAXES", "A_ORDER", "B_ORDER", "A_2_0", "CPDIS1", "PS2_0", "WAT1_001"),
]
card_values = (
    numbers
    | st.sampled_from(["T", "F", "7", "-32", "999", "1000000000", "-5", "1E999", "NaN", "", "'", "''", "'BINTABLE'"])
    | st.sampled_from(
        ["'IMAGE'", "'GLON-TAN'", "'RA---SIP'", "'GLAT-CAR'", "'deg'", "'m'", "'1PJ(999999999)'", "(1, 2)"]
    )
    | st.text(st.characters(max_codepoint=255), max_size=40)
)
changes = st.lists(
    st.tuples(st.just("card"), st.sampled_from(KEYWORDS), card_values, st.booleans())
    | st.tuples(st.just("bytes"), st.floats(0, 1), st.binary(min_size=1, max_size=20), st.booleans())
    | st.tuples(st.just("cut"), st.floats(0, 1), st.none(), st.none()),
    min_size=1,
    max_size=3,
)


def changed(content, headers, change):
    """A file with one thing in a header put wrong."""
    what, where, value, late = change
    if what == "cut":
        return content[: int(where * len(content))]
    start, end = headers[-1 if late else len(headers) // 2]
    if what == "bytes":
        place = start + int(where * (end - start - 1))
        return content[:place] + value + content[place + len(value) :]
    cards = [place for place in range(start, end, 80) if content[place : place + 8] == where.ljust(8).encode()]
    # A card that is not there takes the place of the header's last but one.
    place = cards[0] if cards else content.index(b"END".ljust(80), start) - 80
    return content[:place] + card(where, value) + content[place + 80 :]


@pytest.fixture(scope="module")
def sound(survey, tmp_path_factory):
    """Bytes of a plain and a tile-compressed survey, and where their headers are."""
    packed = tmp_path_factory.mktemp("packed") / "survey.fits.fz"
    with fits.open(survey) as hdus:
        tiles = [
            fits.CompImageHDU(hdu.data, hdu.header, compression_type="GZIP_1", quantize_level=0) for hdu in hdus[1:]
        ]
        fits.HDUList([fits.PrimaryHDU(), *tiles]).writeto(packed)
    places = {}
    for path in (survey, packed):
        with fits.open(path, disable_image_compression=True) as hdus:
            infos = [hdu.fileinfo() for hdu in hdus]
        places[path.name] = path.read_bytes(), [(info["hdrLoc"], info["datLoc"]) for info in infos]
    return places


def taken_or_refused(folder):
    """Scan and ingest a survey; refused, it takes little memory and leaves nothing."""
    (path,) = folder.iterdir()
    tracemalloc.start()
    try:
        for attempt in (scan, lambda source: ingest(source, folder / "out.zarr")):
            with as_for_users(), suppress(InputError):
                attempt(SurveySource.of(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST_MEMORY
    left = {entry.name for entry in folder.iterdir()} - {path.name}
    assert left <= {"out.zarr"}
    assert not left or (folder / "out.zarr" / "zarr.json").exists()


@hypothesis.settings(settings, max_examples=50)
@given(st.sampled_from(["survey.fits", "survey.fits.fz"]), changes)
def test_whatever_a_header_says(sound, tmp_path_factory, name, changes):
    folder = tmp_path_factory.mktemp("header")
    content, headers = sound[name]
    for change in changes:
        with suppress(ValueError):  # an END that an earlier change has taken away
            content = changed(content, headers, change)
    (folder / name).write_bytes(content)
    taken_or_refused(folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        *(("NAXIS", 999), ("NAXIS", 10**9), ("NAXIS", 10**30), ("naxis", 10**9), ("NAXIS1", 10**9), ("NAXIS1", -5)),
        *(("BITPIX", 7), ("GCOUNT", 0), ("GCOUNT", -5), ("PCOUNT", -5), ("PCOUNT", 10**30), ("TFIELDS", 10**9)),
        *(("TFORM1", "'1PJ(999999999)'"), ("XTENSION", "'IMAGE'"), ("XTENSION", "NaN"), ("SIMPLE", "F")),
        *(("EXTNAME", "\xff\xfe"), ("END", ""), ("BSCALE", 0), ("BSCALE", "NaN"), ("BZERO", "1E308"), ("BLANK", "'a'")),
        *(("ZNAXIS", 10**9), ("ZNAXIS1", 10**9), ("ZTILE1", 0), ("ZCMPTYPE", 5), ("ZBITPIX", 7), ("ZSCALE", "'a'")),
        *(("WCSAXES", 10**9), ("A_ORDER", 10**9), ("CDELT1", "1E308"), ("CDELT1", 0), ("CRVAL1", "1E308")),
        *(
            ("CRPIX1", "NaN"),
            ("CTYPE1", "'RA---SIP'"),
            ("LONPOLE", "1E999"),
            ("EQUINOX", "1E308"),
            ("MJD-OBS", "1E308"),
        ),
    ],
)
def test_headers_that_harmed(sound, tmp_path_factory, keyword, value):
    for name, (content, headers) in sound.items():
        folder = tmp_path_factory.mktemp("card")
        (folder / name).write_bytes(changed(content, headers, ("card", keyword, value, False)))
        taken_or_refused(folder)


# --- run directories --------------------------------------------------------------------------------------------------


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


@hypothesis.settings(settings, max_examples=150)
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


# --- the source -------------------------------------------------------------------------------------------------------

SOURCES = sorted(Path(cwt_dask.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_file_is_executed(path):
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    assert not {name.split(".")[0] for name in modules} & {"pickle", "cloudpickle", "dill", "marshal", "shelve", "yaml"}
    assert not names & {"eval", "exec", "compile", "__import__"}
    loads = [node for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node) == "np.load"]
    refused = [node for node in nodes if isinstance(node, ast.keyword) and ast.unparse(node) == "allow_pickle=False"]
    assert len(loads) == len(refused)
