"""Planes of a cube: which of exposure, mask and background belong to those of the counts."""

from types import SimpleNamespace

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from skies import sky_header

from cwt_dask.errors import SurveyError
from cwt_dask.survey import SurveySource, as_file, ingest, scan
from cwt_dask.survey.strips import OpenSurvey

SHAPE = (20, 30)
EDGES = np.geomspace(1, 32, 6) * u.TeV
TAKEN = "exposure has 5 planes as the counts have, and nothing says that they are of the same energies"


def table(name, edges=EDGES, prefix="E", **columns):
    named = {f"{prefix}_MIN": edges[:-1], f"{prefix}_MAX": edges[1:]} if edges is not None else {}
    return fits.BinTableHDU(Table(named | columns), name=f"{name}_BANDS")


def image(name, n=5, shape=SHAPE, value=1, **cards):
    data = np.full((n, *shape) if n else shape, value, np.float32)
    hdu = fits.ImageHDU(data, sky_header(shape), name.upper())
    hdu.header.update(cards)
    return hdu


@pytest.fixture
def survey(tmp_path):
    """Write counts and background of some planes, with their energies unless told otherwise, and other HDUs."""

    def write(*hdus, n=5, energies=True):
        two = [image("counts", n, value=2), image("background", n)]
        tables = [table(hdu.name) for hdu in two] if energies and n == 5 else []
        path = tmp_path / "survey.fits"
        fits.HDUList([fits.PrimaryHDU(), *two, *tables, *hdus]).writeto(path, overwrite=True)
        return path

    return write


def measured(path, **options):
    """Whether there is an exposure, a mask, and the warnings about planes."""
    statistics = scan(SurveySource.of(path, **{"band": "sum"} | options))
    return statistics.mask, [text for text in statistics.warnings if "exposure" in text.lower() or "MASK" in text]


OWN = {"NPIX": np.array([[2, 2], [4, 4], [6, 6], [8, 8], [8, 8]]), "CDELT": np.full((5, 2), 0.1)}
OFF_GRID = {"shape": (10, 15)}
MISFITS = {
    "50 planes": ([image("exposure", 50)], "HDU EXPOSURE has 50 bands, but HDU COUNTS has 5"),
    "GADF": (
        [image("exposure", AXCOLS1="ENERGY_TRUE_MIN,ENERGY_TRUE_MAX")],
        "HDU EXPOSURE has planes of true energy, but",
    ),
    "header": ([image("exposure", CTYPE3="MC_ENERGY")], "HDU EXPOSURE has planes of true energy, but HDU COUNTS has "),
    "table": (
        [image("exposure", 3), table("EXPOSURE", EDGES[:4], prefix="ENERGY_TRUE")],
        "HDU EXPOSURE has planes of true energy from 1 to 8 TeV, but HDU COUNTS has planes of measured energy from 1 ",
    ),
    "named table": (
        [image("exposure", BANDSHDU="TRUE_BANDS"), table("TRUE", 2 * EDGES, prefix="ENERGY_TRUE")],
        "HDU EXPOSURE has planes of true energy from 2",
    ),
    "a gap": (
        [image("exposure"), table("EXPOSURE", None, E_MIN=EDGES[:-1], E_MAX=EDGES[1:] * [1, 1, 0.9, 1, 1])],
        "HDU EXPOSURE has planes of measured energy from 1 to 32 TeV, but HDU COUNTS has planes of measured energy",
    ),
    "shifted": (
        [image("exposure"), table("EXPOSURE", 1.1 * EDGES)],
        "HDU EXPOSURE has planes of measured energy from 1.1 to 35.2 TeV, but HDU COUNTS has planes of measured energy",
    ),
    "other unit": (
        [image("exposure"), table("EXPOSURE", EDGES.value * u.keV)],
        "of measured energy from 1e-09 to 3.2e-08",
    ),
    "nodes": (
        [image("exposure"), table("EXPOSURE", None, ENERGY=9 * EDGES[:-1])],
        "of measured energy from 9 to 144 TeV",
    ),
    "grid": ([image("exposure", **OFF_GRID)], "HDU EXPOSURE is 10 x 15 pixels (y, x), but HDU COUNTS is 20 x 30"),
    "sky": ([image("exposure", CRVAL1=50.0)], "HDU EXPOSURE and HDU COUNTS cover different sky: their WCS differ"),
    "bad WCS": ([image("exposure", CTYPE1="GLON-QQQ", CTYPE2="GLAT-QQQ")], "the WCS of HDU EXPOSURE cannot be used ("),
    "other axes": ([image("mask", CTYPE1="ENERGY", CTYPE3="GLON-CAR")], "HDU MASK has the sky on its axes 2 and 3"),
    "own pixels": ([image("mask"), table("MASK", **OWN)], "HDU MASK has planes with pixels of their own (NPIX in its"),
    "a table": ([fits.BinTableHDU(Table({"A": [1]}), name="EXPOSURE")], "HDU EXPOSURE is a table, not an image"),
    "two": ([image("exposure"), image("exposure")], "numbers 5 and 6"),
    "mask grid": ([image("mask", **OFF_GRID)], "HDU MASK is 10 x 15 pixels"),
    "mask planes": ([image("mask", 3)], "HDU MASK has 3 bands, but HDU COUNTS has 5"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_is_left_out_unless_it_was_asked_for(survey, case):
    hdus, reason = MISFITS[case]
    name, path = hdus[0].name.lower(), survey(*hdus)
    mask, (warning,) = measured(path)
    assert not mask
    assert reason in warning
    assert ": it is left out, so " in warning
    assert str(path.parent) not in warning
    for asked in ({f"{name}_hdu": name}, {name: f"{path}[{name}]"}):
        with pytest.raises(SurveyError) as refused:
            measured(path, **asked)
        assert reason in str(refused.value).replace(f" of {path}", "").replace(str(path), "the file")


def in_tev(name, edges=EDGES, **columns):
    return [image(name), table(name.upper(), edges, **columns)]


@pytest.mark.parametrize(
    ("hdus", "said"),
    [
        (in_tev("exposure"), []),
        (in_tev("exposure", EDGES.to("keV").astype(np.float32)), []),
        (in_tev("exposure", None, ENERGY=np.sqrt(EDGES[:-1] * EDGES[1:]).to("MeV")), []),
        ([image("exposure", 0)], []),
        ([image("exposure", 1), image("mask", 1)], []),
        (in_tev("mask"), []),
        ([image("exposure")], [TAKEN]),
        (in_tev("exposure", EDGES.value), [TAKEN]),
        (in_tev("exposure", None), [TAKEN]),
        # Fermi's tools write a linear axis although it is none: it is no match for a table.
        ([image("exposure", CTYPE3="Energy", CRVAL3=1.0, CDELT3=1.0, CRPIX3=1.0, CUNIT3="MeV")], [TAKEN]),
    ],
)
def test_what_fits_is_taken_with_a_word_where_nothing_says_that_it_does(survey, hdus, said):
    path = survey(*hdus)
    taken = measured(path)
    assert [text.partition(": they are taken so")[0] for text in taken[1]] == said
    assert measured(path, **{f"{hdus[0].name.lower()}_hdu": hdus[0].name}) == taken
    planes = [hdu for hdu in hdus if hdu.is_image]
    with OpenSurvey.open(SurveySource.of(path, band=1)) as opened:
        assert list(opened.planes) == ["counts", "background", *(plane.name.lower() for plane in planes)]


def test_linear_axes_of_headers_are_compared(survey):
    axis = {"CTYPE3": "ENERGY", "CRPIX3": 1.0, "CDELT3": 10.0, "CUNIT3": "GeV"}
    path = survey(image("exposure", CRVAL3=5.0, **axis), energies=False)
    for value, said in ((5.0, []), (6.0, ["HDU EXPOSURE has planes of measured energy from 0.005 to 0.045 TeV, but"])):
        for name, card in {**axis, "CRVAL3": value}.items():
            fits.setval(path, name, value=card, extname="COUNTS")
        assert [text.partition(" HDU COUNTS")[0] for text in measured(path)[1]] == said


@pytest.mark.parametrize("name", ["exposure", "mask"])
def test_a_cube_beside_an_image_needs_no_band(survey, name):
    path = survey(image(name, 5), n=0)
    (warning,) = scan(SurveySource.of(path)).warnings[:1]
    assert warning.startswith(f"HDU {name.upper()} has 5 bands, but HDU COUNTS has 1: it is left out")
    for band in (None, "sum"):
        with pytest.raises(SurveyError, match=f"give maps of the same bands, or leave it out, --{name}-hdu none"):
            scan(SurveySource.of(path, band=band, **{f"{name}_hdu": name}))


def test_a_background_of_other_bands_is_refused(survey, tmp_path):
    path = survey()
    other = tmp_path / "other.fits"
    fits.HDUList([fits.PrimaryHDU(), image("background"), table("BACKGROUND", 2 * EDGES)]).writeto(other)
    with pytest.raises(SurveyError, match=r"other.fits has planes of .* from 2 to 64 TeV, but .*: give maps"):
        scan(SurveySource.of(path, background=other, band=0))


def test_planes_with_pixels_of_their_own_are_refused(tmp_path):
    def written(**own):
        hdus = [fits.PrimaryHDU(image("counts").data, image("counts").header), table("x", **own)]
        hdus[1].name = "BANDS"
        fits.HDUList(hdus).writeto(tmp_path / "c.fits", overwrite=True)
        return SurveySource.of(tmp_path / "c.fits", counts_hdu=0, background=tmp_path / "c.fits", band=0)

    with pytest.raises(SurveyError, match=r"planes with pixels of their own \(NPIX in its table BANDS\): res"):
        scan(written(**OWN))
    assert scan(written(CDELT=OWN["CDELT"])).n_valid == 600


DISPERSED = (
    "energy dispersion (HDU EDISP) is not applied to the exposure: photon fluxes take measured energies for true ones, "
    "and are some percent (HESS) to 15 % (HAWC) too large"
)


def test_real_files(real_data):
    def of(name, **options):
        return scan(SurveySource.of(real_data / name, **options))

    hawc, crab = "hawc_nhit5_mapdataset.fits.gz", "fermi_3fhl_crab_mapdataset.fits"
    first = of(hawc, band=0, mask_hdu=None).warnings
    assert first[:1] == (DISPERSED,)
    assert [text.partition(":")[0] for text in first[1:]] == [
        "counts are 0 on all 14400 pixels that are used, so nothing can be found",
        "background is negative by no more than rounding (pixels = 14400, lowest = -8e-18)",
    ]
    with pytest.raises(SurveyError, match="HDU MASK_SAFE excludes them: choose other bands, or leave it out, --mask-"):
        of(hawc, band=0)
    safe = of(hawc, band="sum")
    # Counts of a band that is not safe take no part.
    assert (safe.counts_sum, safe.exposure_unit, safe.warnings) == (7234, "cm2 s", (DISPERSED,))
    assert of(hawc, emin="3.16TeV", emax="31.6TeV").counts_sum == 7234
    assert of(crab, band="sum").used == "1656 of 2000 (masked by HDU MASK_SAFE: 344)"
    assert of(crab, emin="28.9GeV").counts_sum == 789
    # An exposure by HEALPix pixel serves an image.
    by_pixel = of(crab, band=4, exposure=real_data / "fermi_3fhl_exposure_cube_hpx.fits.gz", exposure_unit="cm2 s")
    assert (by_pixel.counts_sum, by_pixel.exposure_unit, by_pixel.warnings) == (10, "cm2 s", ())
    irregular = real_data / "gadf_wcs_ccube_irregular.fits"
    with pytest.raises(SurveyError, match=r"planes with pixels of their own \(NPIX, CDELT, CRPIX in its table BANDS"):
        of(irregular.name, counts_hdu=0, background=irregular, band="sum")


def test_a_band_takes_no_part_where_its_mask_excludes_it(survey):
    mask = image("mask")
    mask.data[0, 3:5, 7], mask.data[:, 9, 9] = 0, 0
    statistics = scan(SurveySource.of(survey(mask), band="sum"))
    assert (statistics.n_masked, statistics.counts_sum, statistics.background_sum) == (1, 2 * 2993, 2993)
    assert statistics.used == "599 of 600 (masked by HDU MASK: 1)"


def test_cubes_are_summed_as_float64(survey, tmp_path):
    path = survey(n=2, energies=False)
    with fits.open(path, mode="update") as hdus:
        hdus["COUNTS"].data[:, 0, 0] = 2**24, 1
        hdus["BACKGROUND"].data[:, 0, 0] = 1, 2**24
    store = ingest(SurveySource.of(path, band="sum"), tmp_path / "s.zarr")
    assert store.counts[0, 0].compute() == store.background[0, 0].compute() == 2**24 + 1
    assert ingest(SurveySource.of(path, band=0), tmp_path / "one.zarr").counts.dtype == np.float32


def a_map(name, axis="energy", edges=EDGES, **data):
    axes = [SimpleNamespace(name=axis, edges=edges)]
    hdu = image(name, **data)
    wcs = SimpleNamespace(wcs=WCS(hdu.header).celestial, axes=axes)
    return SimpleNamespace(data=hdu.data, geom=wcs, unit="cm2 s")


def test_energies_of_maps_in_memory_are_compared_too():
    two = {"counts": a_map("counts", value=2), "background": a_map("background")}

    def said(dataset, **options):
        with as_file(dataset) as (path, named):
            return measured(path, **named | options)[1]

    for axis, kind in {"energy_true": "true", "energy": "measured"}.items():
        maps = two | {"exposure": a_map("exposure", axis, edges=3 * EDGES)}
        (warning,) = said(SimpleNamespace(**maps))
        assert warning.startswith(
            f"HDU EXPOSURE has planes of {kind} energy from 3 to 96 TeV, but HDU COUNTS has planes"
        )
        with pytest.raises(SurveyError, match="HDU EXPOSURE of the dataset has planes of .*: they do not cover the b"):
            said(maps)
        assert said(maps, exposure_hdu="none") == said(two | {"exposure": a_map("exposure")}) == []
    of_hdus = {name: image(name) for name in two} | {"exposure": image("exposure", CTYPE3="ENERGY_TRUE")}
    with pytest.raises(SurveyError, match="has planes of true energy"):
        said(of_hdus)
