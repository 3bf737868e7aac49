import numpy as np
from astropy.io import fits
from skies import poisson_sky, write_survey

from cwt_dask import run_survey
from cwt_dask.inspection.verify import verify_run
from cwt_dask.products.layers import layer_of
from cwt_dask.storage import schema
from cwt_dask.storage.zarr_io import open_group
from cwt_dask.tiles import publish

PRODUCTS = ("cutout", "fits", "compare")
NEW = schema.MapSpec("squared", "square of the model", unit="count2", dense=True, reduced="largest", products=PRODUCTS)


def test_a_new_map_is_one_row_and_the_code_that_computes_it(tmp_path, monkeypatch):
    computed = publish._core_arrays

    def with_the_new_map(job, survey, result):
        yield from computed(job, survey, result)
        yield NEW.name, result.reached.state.model[result.tile.core.within(result.tile.box)] ** 2

    monkeypatch.setattr(schema, "MAPS", (*schema.MAPS, NEW))
    monkeypatch.setattr(publish, "_core_arrays", with_the_new_map)
    survey = write_survey(tmp_path / "survey.fits", *poisson_sky((70, 90), seed=8))
    options = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "max_iter": 2, "tile_size": 40, "workers": 0}
    run = run_survey(survey, tmp_path / "run", no_report=True, **options)
    squared = run.map(NEW.name).compute()
    np.testing.assert_array_equal(squared, run.model.compute() ** 2)
    stored = open_group(run.files.maps)[NEW.name]
    assert stored.metadata.dimension_names == ("y", "x")
    assert dict(stored.attrs) == {"long_name": NEW.long_name, "units": "count2"}
    assert stored.compressors == open_group(run.files.maps)["residual"].compressors
    cut = run.cutout(None, None)["SQUARED"]
    assert cut.header["BUNIT"] == "count2"
    for image in (cut.data, fits.getdata(run.files.maps_fits, "SQUARED")):
        np.testing.assert_array_equal(image, squared)
    box = run.stored.plan.grid.map_box
    assert layer_of(run, NEW.name).read_reduced(box, 100, ring=False) == squared.max()
    # Its chunks are among those that verify looks at.
    assert not any(check.broken for check in verify_run(run))
    file = run.files.maps / NEW.name / "c" / "0" / "0"
    file.write_bytes(b"damaged")
    assert f"other pixels in tile 0 ({file} is damaged)" in [check.fault for check in verify_run(run) if check.broken]


def test_rows_agree_with_each_other():
    names = [spec.name for spec in schema.MAPS]
    assert len(set(names)) == len(names)
    for spec in schema.MAPS:
        assert bool(spec.sources) == (spec.derive is not None) == (spec.origin == "derived")
        assert set(spec.sources) <= {source.name for source in schema.maps_from("tile", "survey")}
        assert not spec.digested or spec.origin == "tile"
    assert [spec.name for spec in schema.MAPS if spec.digested] == ["model", "approx", "support"]
