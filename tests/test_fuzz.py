"""Whatever users, files and dying machines hand in: it is taken, or refused by a named error, and leaves nothing."""

import ast
import math
import shutil
import tracemalloc
from contextlib import suppress
from pathlib import Path

import hypothesis
import pytest
import tomli_w
from astropy.io import fits
from fuzzing import SHAPE, as_for_users, settings, tree
from hypothesis import given
from hypothesis import strategies as st
from skies import poisson_sky, write_survey

import cwt_dask
from cwt_dask.cli.commands import main
from cwt_dask.cli.options import flag_of
from cwt_dask.config.declaration import option_names
from cwt_dask.config.execution import Execution
from cwt_dask.config.options import OPTION_NAMES
from cwt_dask.config.settings import Settings
from cwt_dask.errors import InputError
from cwt_dask.survey import SurveySource, ingest

# Far above what so small a survey takes, far below what hostile headers ask for.
MOST_MEMORY = 100 * 2**20


# --- settings ---------------------------------------------------------------------------------------------------------

numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([0, -1, 2**31, 2**63, 10**30, 10**400, math.nan, math.inf, -math.inf, 1e308, 5e-324, 1 + 2**-52])
)
TEXTS = ["auto", "yes", "fixed", "0.6deg", "1 deg(1/0)", "1e999deg", "-1deg", "nanGiB", "1e400GiB", "\0"]
texts = st.text(max_size=20) | st.sampled_from([*TEXTS, "9" * 5000, "x" * 300])
leaves = numbers | texts | st.booleans() | st.dates() | st.times()
values = leaves | st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=5
)
# One known option, whose value is then looked at; any options; bytes.
one_option = st.sampled_from([*option_names(Settings), *option_names(Execution)])
contents = (
    st.dictionaries(one_option, values, min_size=1, max_size=1)
    | st.dictionaries(st.sampled_from(OPTION_NAMES) | texts, values, min_size=1, max_size=4)
    | st.binary(max_size=200)
    | st.sampled_from([b"a = " + b"[" * 10_000, b"n_scale = 0x" + b"f" * 5000])
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


@hypothesis.settings(settings, max_examples=60)
@given(contents)
def test_whatever_a_configuration_file_holds(planned, tmp_path, content):
    with suppress(UnicodeEncodeError):  # half a character is no text
        content = content if isinstance(content, bytes) else tomli_w.dumps(content).encode()
        (tmp_path / "config.toml").write_bytes(content)
        planned("--config", str(tmp_path / "config.toml"))


@hypothesis.settings(settings, max_examples=20)
@given(st.lists(st.tuples(st.sampled_from(OPTION_NAMES), values), min_size=1, max_size=4))
def test_whatever_is_typed(planned, options):
    planned(*(f"{flag_of(name)}={value}" for name, value in options))


# --- survey files -----------------------------------------------------------------------------------------------------


def card(keyword, value):
    return f"{keyword:<8}= {value}".encode("latin-1", "replace").ljust(80)[:80]


KEYWORDS = """
    SIMPLE XTENSION BITPIX NAXIS NAXIS1 NAXIS2 NAXIS3 PCOUNT GCOUNT EXTEND GROUPS BSCALE BZERO BLANK TFIELDS TFORM1
    EXTNAME EXTVER ZIMAGE ZCMPTYPE ZBITPIX ZNAXIS1 ZNAXIS2 ZTILE1 ZTILE2 ZSCALE ZZERO ZBLANK ZQUANTIZ THEAP ZNAXIS END
    CTYPE1 CTYPE2 CUNIT1 CUNIT2 CRPIX1 CRPIX2 CRVAL1 CRVAL2 CDELT1 CDELT2 PC1_1 PC1_2 CD1_1 CROTA2 PV2_1 PV2_2 LONPOLE
    LATPOLE RADESYS EQUINOX MJD-OBS DATE-OBS WCSAXES A_ORDER B_ORDER A_2_0 CPDIS1 PS2_0 WAT1_001
"""
CARD_TEXTS = "T F 7 -32 999 1000000000 -5 1E999 NaN ' '' 'BINTABLE' 'IMAGE' 'deg' 'm' 'GLAT-CAR' 'GLON-TAN' 'RA---SIP'"
card_values = (
    numbers
    | st.sampled_from([*CARD_TEXTS.split(), "", "'1PJ(999999999)'", "(1, 2)"])
    | st.text(st.characters(max_codepoint=255), max_size=40)
)
changes = st.lists(
    st.tuples(st.just("card"), st.sampled_from(KEYWORDS.split()), card_values, st.booleans())
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
        as_tiles = {"compression_type": "GZIP_1", "quantize_level": 0}
        tiles = [fits.CompImageHDU(hdu.data, hdu.header, **as_tiles) for hdu in hdus[1:]]
        fits.HDUList([fits.PrimaryHDU(), *tiles]).writeto(packed)
    places = {}
    for path in (survey, packed):
        with fits.open(path, disable_image_compression=True) as hdus:
            infos = [hdu.fileinfo() for hdu in hdus]
        places[path.name] = path.read_bytes(), [(info["hdrLoc"], info["datLoc"]) for info in infos]
    return places


def taken_or_refused(folder, name, content):
    """Ingest a survey; refused, it takes little memory and leaves nothing."""
    folder.mkdir()
    (folder / name).write_bytes(content)
    tracemalloc.start()
    try:
        with as_for_users(), suppress(InputError):
            ingest(SurveySource.of(folder / name), folder / "out.zarr")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST_MEMORY
    left = {entry.name for entry in folder.iterdir()} - {name}
    assert not left or (left == {"out.zarr"} and (folder / "out.zarr" / "zarr.json").exists())
    shutil.rmtree(folder)


@hypothesis.settings(settings, max_examples=30)
@given(st.sampled_from(["survey.fits", "survey.fits.fz"]), changes)
def test_whatever_a_header_says(sound, tmp_path, name, changes):
    content, headers = sound[name]
    for change in changes:
        with suppress(ValueError):  # an END that an earlier change has taken away
            content = changed(content, headers, change)
    taken_or_refused(tmp_path / "header", name, content)


HARMED = f"""
    NAXIS=999 NAXIS={10**9} NAXIS={10**30} naxis={10**9} NAXIS1={10**9} NAXIS1=-5 BITPIX=7 GCOUNT=0 GCOUNT=-5 PCOUNT=-5
    PCOUNT={10**30} TFIELDS={10**9} TFORM1='1PJ(999999999)' XTENSION='IMAGE' XTENSION=NaN SIMPLE=F EXTNAME=\xff\xfe END=
    BSCALE=0 BSCALE=NaN BZERO=1E308 BLANK='a' ZNAXIS={10**9} ZNAXIS1={10**9} ZTILE1=0 ZCMPTYPE=5 ZBITPIX=7 ZSCALE='a'
    WCSAXES={10**9} A_ORDER={10**9} CDELT1=1E308 CDELT1=0 CRVAL1=1E308 CRPIX1=NaN CTYPE1='RA---SIP' LONPOLE=1E999
    EQUINOX=1E308 MJD-OBS=1E308
""".split()


@pytest.mark.parametrize("text", HARMED)
def test_headers_that_harmed(sound, tmp_path, text):
    for name, (content, headers) in sound.items():
        change = ("card", *text.split("=", 1), False)
        taken_or_refused(tmp_path / "card", name, changed(content, headers, change))


# --- the source -------------------------------------------------------------------------------------------------------

PICKLES = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "yaml"}


def test_no_file_is_executed():
    for path in Path(cwt_dask.__file__).parent.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        assert not {name.split(".")[0] for name in modules} & PICKLES, path
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        assert not names & {"eval", "exec", "compile", "__import__"}, path
        parts = [ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute | ast.keyword)]
        assert parts.count("np.load") == parts.count("allow_pickle=False"), path
