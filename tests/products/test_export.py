"""Exports for other tools are read by other libraries than wrote them, where there is one."""

import builtins

import astropy.units as u
import numpy as np
import pytest
import spheres
from astropy.io import fits
from astropy_healpix import HEALPix

from cwt_dask.errors import InputError
from cwt_dask.products.export import export
from cwt_dask.products.hips import write_hips
from cwt_dask.run import run_survey

NSIDE = 32
# Of tiles of a flat map: there are 48.
WIDTH = 512


@pytest.fixture(scope="module")
def sphere(tmp_path_factory):
    """A finished run on a part of the sphere, in ICRS, and its counts by NESTED number, NaN elsewhere."""
    folder = tmp_path_factory.mktemp("sphere")
    counts, background = spheres.sky(NSIDE, [spheres.CORNER], 400.0)
    # Three base cells have a part of it.
    pixels = spheres.cap(NSIDE, spheres.CORNER, 9.0)
    hdus = [
        spheres.table(n, v, NSIDE, pixels=pixels, COORDSYS="CEL")
        for n, v in (("COUNTS", counts), ("BACKGROUND", background))
    ]
    path = spheres.write(folder / "sky.fits", *hdus)
    options = {"n_scale": 1, "min_scale": 1.5, "max_iter": 2, "workers": 0, "no_report": True, "fits": "no"}
    seen = np.full(len(counts), np.nan)
    seen[pixels] = counts[pixels]
    return run_survey(path, folder / "run", **options), seen


def moc_cells(path, order):
    """Numbers of the cells of an order that a MOC in FITS has: it is made of ranges of cells of order 29."""
    header, ranges = fits.getheader(path, 1), np.asarray(fits.getdata(path, 1).field(0), np.int64).reshape(-1, 2)
    assert (header["COORDSYS"], header["ORDERING"]) == ("C", "RANGE")
    assert not (ranges % 4 ** (29 - order)).any()
    return np.concatenate([np.arange(*cells) for cells in ranges >> 2 * (29 - order)])


def test_a_moc_of_a_flat_map_covers_its_pixels_and_hardly_more(run, sky, tmp_path):
    out = export(run, tmp_path / "moc", "moc")
    y, x = np.nonzero(sky[2])
    found = HEALPix(256, order="nested", frame="icrs")
    cells = moc_cells(out / "survey.fits", 8)
    held = found.skycoord_to_healpix(run.wcs.pixel_to_world(x, y).icrs)
    assert set(cells) == set(held)
    y, x = np.nonzero(run.support.any(axis=0).compute())
    held = found.skycoord_to_healpix(run.wcs.pixel_to_world(x, y).icrs)
    assert set(moc_cells(out / "support.fits", 8)) == set(held)
    # What is masked has none: ten pixels of its middle.
    middle = found.skycoord_to_healpix(run.wcs.pixel_to_world(52, 35).icrs)
    assert middle not in cells


def test_a_moc_of_the_sphere_has_the_cells_of_its_pixels(sphere, tmp_path):
    run, seen = sphere
    cells = moc_cells(export(run, tmp_path / "moc", "moc") / "survey.fits", 4)
    assert set(cells) == set(np.flatnonzero(np.isfinite(seen)) >> 2)


def test_tiles_of_hips_are_healpix_pixels_in_the_order_of_the_standard(sphere, tmp_path):
    run, seen = sphere
    write_hips(run, tmp_path, layers=("counts",), width=NSIDE)
    tiles = {int(path.stem.removeprefix("Npix")): path for path in (tmp_path / "counts/Norder0/Dir0").glob("*.fits")}
    assert set(tiles) == set(np.flatnonzero(np.isfinite(seen)) // NSIDE**2)
    for number, tile in tiles.items():
        shown = fits.getdata(tile)
        # Columns follow the odd bits of a number, rows from the top the even ones (HiPS 1.0, 4.2.1).
        y, x = np.indices(shown.shape)
        inside = sum((x >> bit & 1) << 2 * bit + 1 | ((NSIDE - 1 - y) >> bit & 1) << 2 * bit for bit in range(5))
        np.testing.assert_array_equal(shown, seen[number * NSIDE**2 + inside])
    properties = dict(
        line.split("=") for line in (tmp_path / "counts" / "properties").read_text().splitlines() if "=" in line
    )
    properties = {key.strip(): value.strip() for key, value in properties.items()}
    assert (properties["hips_frame"], properties["hips_order"], properties["hips_tile_width"]) == (
        "equatorial",
        "0",
        str(NSIDE),
    )


def test_hips_of_a_flat_map_show_its_pixels_where_they_are(run, tmp_path):
    write_hips(run, tmp_path, layers=("model",), width=WIDTH)
    order = max(int(path.name.removeprefix("Norder")) for path in (tmp_path / "model").glob("Norder*"))
    healpix = HEALPix(2**order * WIDTH, order="nested", frame="galactic")
    # No pixel of a tile is wider than the map's.
    assert healpix.pixel_resolution <= 0.1 * u.deg
    y, x = np.unravel_index(np.argmax(run.model.compute()), run.model.shape)
    number = int(healpix.skycoord_to_healpix(run.wcs.pixel_to_world(x, y)))
    tile = tmp_path / "model" / f"Norder{order}" / "Dir0" / f"Npix{number // WIDTH**2}.fits"
    assert np.nanmax(fits.getdata(tile)) == np.float32(run.model.max().compute())
    # And no others but those that have a part of it.
    corners = run.wcs.pixel_to_world([-0.5, 89.5, -0.5, 89.5], [-0.5, -0.5, 69.5, 69.5])
    tiles = HEALPix(2**order, order="nested", frame="galactic").skycoord_to_healpix(corners)
    found = {int(path.stem.removeprefix("Npix")) for path in (tmp_path / "model" / f"Norder{order}").rglob("*.fits")}
    assert found == set(map(int, tiles))


@pytest.mark.parametrize(
    ("out", "kind", "options", "match"),
    [
        ("new", "png", {}, "format is png: give one of gammapy, fermipy-xml, ds9, crtf, moc, hips"),
        (".", "moc", {}, "exists: remove it or choose another name"),
        ("new", "moc", {"emin": "1GeV"}, "emin is given, and format moc has no spectra: leave it out"),
    ],
)
def test_exports_that_cannot_be_are_refused(run, tmp_path, out, kind, options, match):
    with pytest.raises(InputError, match=match):
        export(run, tmp_path / out, kind, **options)
    assert not list(tmp_path.iterdir())


def test_exports_to_object_stores_and_full_places_and_without_packages_are_refused(run, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="is an object store: give a place on a disk"):
        export(run, "s3://bucket/moc", "moc")
    with pytest.raises(InputError, match="moc lies in the run's own directory"):
        export(run, run.files.path / "moc", "moc")
    (tmp_path / "file").touch()
    for kind in ("moc", "ds9"):
        with pytest.raises(InputError, match="file/out is not written"):
            export(run, tmp_path / "file" / "out", kind)
    real = builtins.__import__

    def without(name, *rest):
        if name == "mocpy":
            raise ModuleNotFoundError(name, name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match="format moc needs mocpy: pip install 'cwt_dask\\[export\\]'"):
        export(run, tmp_path / "moc", "moc")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
