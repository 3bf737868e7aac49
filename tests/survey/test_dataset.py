"""Surveys in memory: what looks like a dataset of Gammapy. The real one: tests/gammapy."""

import sys
from types import SimpleNamespace

import dask.array
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, NDData, NDDataRef
from astropy.table import MaskedColumn
from astropy.utils.masked import Masked
from astropy.wcs import WCS
from skies import poisson_sky, sky_header, write_survey

from cwt_dask import CWT, CWTData, CWTKernels, run_survey
from cwt_dask.cwt.image import SkyImage
from cwt_dask.errors import InputError, SurveyError
from cwt_dask.reprocess import reprocess
from cwt_dask.run import plan_survey
from cwt_dask.survey import SurveySource, as_file, ingest, scan

OPTIONS = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "max_iter": 2, "tile_size": 100}
OPTIONS |= {"workers": 0, "no_report": True, "fits": "no"}
SHAPE = (40, 60)


def a_map(data, *, header=None, unit="", **geom):
    return SimpleNamespace(
        data=data, unit=unit, geom=SimpleNamespace(wcs=WCS(header or sky_header(data.shape[-2:])), **geom)
    )


@pytest.fixture(scope="module")
def sky():
    counts, background = poisson_sky(SHAPE, seed=8)
    mask = np.ones(SHAPE, dtype=bool)
    mask[5:9, 10:12] = False
    return counts, background, mask


@pytest.fixture
def dataset(sky):
    counts, background, mask = (a_map(plane[np.newaxis]) for plane in sky)
    return SimpleNamespace(
        counts=counts, background=a_map(7 * sky[1]), npred_background=lambda: background, mask_safe=mask, exposure=None
    )


def test_a_run_on_a_dataset_is_the_run_on_its_file(dataset, sky, tmp_path, monkeypatch):
    file = write_survey(tmp_path / "survey.fits", *sky)
    run = run_survey(dataset, tmp_path / "run", **OPTIONS)
    of_file = run_survey(file, tmp_path / "of_file", **OPTIONS)
    assert run.certificate["digest_maps"] == of_file.certificate["digest_maps"]
    np.testing.assert_array_equal(run.survey.mask, sky[2])
    # The same dataset again is the same run; nothing is left of the file.
    assert run_survey(dataset, tmp_path / "run", **OPTIONS).certificate == run.certificate
    assert plan_survey(dataset, **OPTIONS).survey_digest == run.survey.statistics.digest
    again = reprocess(dataset, run.files.path, tmp_path / "again", workers=0)
    assert again.certificate["digest_maps"] == run.certificate["digest_maps"]
    monkeypatch.setitem(sys.modules, "gammapy.maps", None)
    with pytest.raises(InputError, match=r"maps for Gammapy need Gammapy: pip install 'cwt_dask\[gammapy\]'"):
        run.to_gammapy()


def test_maps_may_come_by_name(sky, tmp_path):
    counts, background, mask = sky
    maps = {"counts": a_map(counts), "background": background, "mask": mask, "exposure": a_map(counts, unit="cm2 s")}
    survey = ingest(maps, tmp_path / "survey.zarr")
    assert survey.exposure is not None
    np.testing.assert_array_equal(survey.background, background * mask)
    with as_file(maps) as (path, _):
        assert ingest(SurveySource.of(path), tmp_path / "of_file.zarr").statistics == survey.statistics
    assert not path.exists()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.longdouble, ">f8", np.int8, np.uint64])
def test_maps_may_hold_real_numbers_of_any_type(sky, tmp_path, kind):
    counts, background, _ = sky
    survey = ingest({"counts": a_map(counts.astype(kind)), "background": background}, tmp_path / "survey.zarr")
    np.testing.assert_array_equal(survey.counts, counts)


def test_of_energy_bins_one_is_chosen_or_all_are_summed(sky, tmp_path):
    counts, background, _ = sky
    cube = SimpleNamespace(counts=a_map(np.stack([counts, counts])), background=a_map(np.stack([background] * 2)))
    with pytest.raises(SurveyError, match="HDU COUNTS of the dataset is a cube of 2 planes: choose one, --band I with"):
        ingest(cube, tmp_path / "none.zarr")
    assert ingest(cube, tmp_path / "one.zarr", band=1).statistics.counts_sum == counts.sum()
    assert ingest(cube, tmp_path / "all.zarr", band="sum").statistics.counts_sum == 2 * counts.sum()
    assert plan_survey(cube, band="sum", **OPTIONS).grid.map_box.shape == SHAPE


@pytest.mark.parametrize("misfit", ["shape", "planes", "sky", None])
def test_exposure_is_taken_where_it_lies_on_the_pixels_of_the_counts(dataset, tmp_path, misfit):
    header = sky_header(SHAPE)
    header["CRVAL1"] = 11.0 if misfit == "sky" else 10.0
    shape = {"shape": (1, 20, 30), "planes": (3, *SHAPE)}.get(misfit, (1, *SHAPE))
    dataset.exposure = a_map(np.ones(shape), header=header, unit="cm2 s")
    survey = ingest(dataset, tmp_path / "survey.zarr")
    assert (survey.exposure is None) is bool(misfit)
    assert [": it is left out" in text for text in survey.statistics.warnings] == [True] * bool(misfit)


KINDS = {
    "NaN": lambda plane, bad: np.where(bad, np.nan, plane),
    "numpy.ma": lambda plane, bad: np.ma.array(plane, mask=bad),
    "NDData": lambda plane, bad: NDData(plane, mask=bad),
    "NDData of Dask": lambda plane, bad: NDData(dask.array.from_array(plane), mask=dask.array.from_array(bad)),
    "CCDData": lambda plane, bad: CCDData(plane, unit="ct", mask=bad),
    "NDData of Masked": lambda plane, bad: NDData(Masked(plane * u.ct, bad)),
    "Masked": Masked,
    "Masked quantity": lambda plane, bad: Masked(plane * u.ct, bad),
    "Dask": lambda plane, bad: dask.array.from_array(np.ma.array(plane, mask=bad), chunks=17),
    "list": lambda plane, bad: [np.ma.array(row, mask=out) for row, out in zip(plane, bad, strict=True)],
    "column": lambda plane, bad: MaskedColumn(plane, mask=bad),
    "object": lambda plane, bad: SimpleNamespace(data=plane, mask=bad),
    "masked map": lambda plane, bad: a_map(np.ma.array(plane, mask=bad)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_others_mask_through_all_doors(sky, tmp_path, kind):
    counts, background, mask = sky
    counts = np.where(mask, counts, 10**6)
    statistics = scan(SurveySource.of(write_survey(tmp_path / "survey.fits", counts, background, mask)))
    expected = CWTData(counts, background, 2, mask).field
    wcs = a_map(counts).geom.wcs
    given = {"counts": counts, "background": background, "mask": np.ones(SHAPE, int)}
    for name, plane in given.items():
        maps = given | {name: KINDS[kind](plane, ~mask)}
        field = CWTData(maps["counts"], maps["background"], 2, maps["mask"]).field
        for attribute in ("counts", "background", "valid"):
            np.testing.assert_array_equal(getattr(field, attribute), getattr(expected, attribute))
        # A WCS of either will do.
        maps |= {"counts": SkyImage(counts, wcs)} if name == "background" else {"background": SkyImage(background, wcs)}
        with as_file(maps) as (path, named):
            found = scan(SurveySource.of(path, **named))
        assert found.digest == statistics.digest
        assert found.n_nan == (statistics.n_masked if kind == "NaN" and name != "mask" else 0)


def test_masked_exposure_is_unknown_and_masks_of_cubes_belong_to_their_planes(sky):
    counts, background, mask = sky
    cube = np.ma.array([counts, counts], mask=[~mask, mask & False])
    maps = {"counts": NDData(cube, wcs=a_map(counts).geom.wcs), "background": np.stack([background] * 2)}
    maps["exposure"] = np.ma.array(np.ones(SHAPE), mask=~mask)
    for band, n_masked in ((0, 8), (1, 0), ("sum", 0)):
        with as_file(maps) as (path, named):
            statistics = scan(SurveySource.of(path, band=band, **named))
        assert (statistics.n_masked, statistics.n_nan, statistics.mask) == (n_masked, 0, "HDU MASK")
        said = "exposure is NaN, infinite or negative at 8 used pixels: taken as 0 there"
        assert (said in statistics.warnings) is (band != 0)
    with pytest.raises(
        InputError, match=r"counts of the dataset has shape \(40, 60\), its mask \(2, 3\): give maps of"
    ):
        ingest({"counts": a_map(cube[0]), "background": background, "mask": ONES[:2, :3]}, "none.zarr")
    with pytest.raises(InputError, match=r"the mask of counts has shape \(3,\), its pixels \(40, 60\): give"):
        CWTData(NDData(counts, mask=[True, False, True]), background, 2)


def test_a_background_below_zero_by_rounding_is_zero_through_all_doors(sky, tmp_path, caplog):
    counts, background, _ = sky

    def low(value, dtype):
        changed = background.astype(dtype)
        changed[3, 4:6] = value, value / 2
        return {"counts": a_map(counts), "background": changed}

    zero = ingest(low(0, float), tmp_path / "zero.zarr")
    for value, dtype in ((-8e-18, float), (-1e-15, float), (-1e-7, "f4")):
        maps = low(value, dtype)
        of_memory = ingest(maps, tmp_path / f"{value}.zarr")
        file = write_survey(tmp_path / "survey.fits", counts, maps["background"])
        text = f"background is negative by no more than rounding (pixels = 2, lowest = {value:.2g}): taken as 0 there"
        assert text in scan(SurveySource.of(file)).warnings
        caplog.clear()
        data = CWTData(counts, maps["background"], 2)
        assert [record.getMessage() for record in caplog.records] == [text]
        for found in (of_memory.background.compute(), data.field.background):
            np.testing.assert_array_equal(found, np.maximum(maps["background"], 0))
    assert zero.statistics.digest == ingest(low(-8e-18, float), tmp_path / "again.zarr").statistics.digest
    for value, dtype in ((-1e-7, float), (-1e-3, "f4")):
        maps = low(value, dtype)
        for door in (plan_survey, lambda maps: CWTData(maps["counts"], maps["background"], 2)):
            with pytest.raises(
                InputError, match="negative, infinite or .* the first of 2|2 negative values, the lowest one"
            ):
                door(maps)


ONES = np.ones(SHAPE)


@pytest.mark.parametrize(
    ("counts", "background", "message"),
    [
        (a_map(ONES), None, "the dataset has no background: counts and background are needed"),
        (
            ONES,
            ONES,
            r"counts of the dataset have no WCS: give them as .*SkyImage\(counts, wcs\), or analyse arrays by CWT",
        ),
        (NDDataRef(ONES, wcs=a_map(ONES).geom.wcs)[:9], ONES[:9], "the WCS of counts of the dataset is a HighLevel"),
        (a_map(ONES, is_hpx=True), ONES, "counts is on a SimpleNamespace that has no rows and columns of pixels"),
        (ONES.astype(complex), ONES, "counts of the dataset is an array of complex128: give an image of real numbers"),
        (ONES, 0.5, "background of the dataset is one value, 0.5: give an image"),
        ([[1, 2], [3]], ONES, "counts of the dataset is no array .*: give an image"),
    ],
)
def test_what_is_no_survey_is_refused(counts, background, message):
    with pytest.raises(InputError, match=message):
        plan_survey({"counts": counts, "background": background})
    with pytest.raises(InputError, match="there is no use for maps bkg: give counts, background, exposure, mask"):
        plan_survey({"counts": counts, "bkg": background})


@pytest.mark.parametrize(
    "survey",
    [
        *(ONES, (ONES, ONES), [ONES, ONES], ONES.tolist(), NDData(ONES), fits.HDUList([fits.PrimaryHDU(ONES)])),
        *(fits.ImageHDU(ONES), SkyImage(ONES), a_map(ONES), np.ma.array(ONES), dask.array.from_array(ONES)),
    ],
)
def test_images_alone_are_no_survey(survey):
    kind = type(survey).__name__
    message = f'{kind} is no survey: give the path of a file, or maps by name, {{"counts": counts, "background": backg'
    for door in (plan_survey, lambda survey: ingest(survey, "none.zarr")):
        with pytest.raises(InputError, match=f"^{message}"):
            door(survey)


def test_one_image_is_analysed_as_its_arrays_are(dataset, sky):
    counts, background, mask = sky
    kernels = CWTKernels(n_scale=2, min_scale=1.2, step_scale=1.5)
    data, expected = CWTData.from_dataset(dataset, n_scale=2), CWTData(counts, background, 2, mask)
    for each in (data, expected):
        CWT(kernels, max_iter=3).analyze(each)
    np.testing.assert_array_equal(data.model.data, expected.model.data)
    assert data.wcs.wcs.ctype[0] == "GLON-CAR"
    dataset.counts = a_map(np.ones((3, *SHAPE)))
    with pytest.raises(InputError, match=r"counts has shape \(3, 40, 60\): give an image"):
        CWTData.from_dataset(dataset, n_scale=2)
