"""Tables of all kinds, as other people write them."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Column, MaskedColumn, Table
from astropy.utils.masked import Masked

from cwt_dask.errors import InputError
from cwt_dask.inspection.external import read_external_catalogue

SKY = SkyCoord([10.0, 20.0], [5.0, -5.0], unit="deg")
COLUMNS = {
    "icrs": {"RA": [10.0, 20.0], "Dec": [5.0, -5.0]},
    "units": {"ra": np.radians([10.0, 20.0]) * u.rad, "dec": [5.0, -5.0] * u.deg},
    "text": {"RAJ2000": ["00 40 00", "01 20 00"], "DEJ2000": ["+05 00 00", "-05 00 00"]},
    "sky": {"where": SKY},
    "galactic": {"GLON": SKY.galactic.l.deg, "GLAT": SKY.galactic.b.deg, "ID": ["a", "b"]},
    **{
        names[0]: dict(zip(names, ([10.0, 20.0], [5.0, -5.0]), strict=True))
        for names in (("_RA", "_DE"), ("_RA.icrs", "_DE.icrs"), ("_RA_icrs", "_DE_icrs"))
    },
}


@pytest.mark.parametrize("suffix", ["ecsv", "fits"])
@pytest.mark.parametrize("kind", COLUMNS)
def test_positions_are_found_in_columns_of_all_kinds(tmp_path, kind, suffix):
    Table(COLUMNS[kind]).write(tmp_path / f"c.{suffix}")
    found = read_external_catalogue(tmp_path / f"c.{suffix}")
    assert SKY.separation(found.sky).max() < 0.1 * u.arcsec
    assert found.names.tolist() == COLUMNS[kind].get("ID", ["1", "2"])
    assert found.label == f"c.{suffix}"


def test_a_table_of_a_file_may_be_named(tmp_path):
    tables = [fits.table_to_hdu(Table({"ra": [ra], "dec": [0.0]})) for ra in (10.0, 20.0)]
    tables[1].name = "SECOND"
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(tmp_path / "c.fits")
    for part, ra in (("", 10.0), ("[1]", 10.0), ("[2]", 20.0), ("[SECOND]", 20.0)):
        assert read_external_catalogue(f"{tmp_path / 'c.fits'}{part}").sky.ra.deg == pytest.approx([ra])


@pytest.mark.parametrize("unit", ["degrees", "DEG", "deg.", "hours", "H", "hourangle", "radians", "arcminutes", "°"])
def test_units_are_known_however_they_are_spelled(tmp_path, unit):
    degree = {"d": 1, "D": 1, "h": 1 / 15, "H": 1 / 15, "r": np.pi / 180, "a": 60, "°": 1}[unit[0]]
    text = f"name,ra,dec\n,{unit},deg\n" + "".join(f"{ra},{ra * degree},{dec}\n" for ra, dec in ((10, 5), (20, -5)))
    (tmp_path / "c.csv").write_text(text, encoding="utf-8")
    files = ["c.csv"]
    if unit.isascii():
        table = Table({"ra": np.array([10.0, 20.0]) * degree, "dec": [5.0, -5.0]})
        hdu = fits.table_to_hdu(table)
        hdu.header["TUNIT1"] = unit
        hdu.writeto(tmp_path / "c.fits")
        files.append("c.fits")
    for file in files:
        assert SKY.separation(read_external_catalogue(tmp_path / file).sky).max() < 1e-6 * u.deg


def test_of_positions_that_are_as_likely_as_each_other_none_is_taken_unasked(tmp_path):
    Table({"ra_x": [1.0], "dec_x": [2.0], "ra_opt": [10.0], "dec_opt": [5.0], "DEC": [0.0]}).write(tmp_path / "c.ecsv")
    with pytest.raises(
        InputError,
        match="c.ecsv has positions in ra_opt and dec_opt, ra_x and dec_x: say .*, such as --columns ra_opt,dec_opt",
    ):
        read_external_catalogue(tmp_path / "c.ecsv")
    assert read_external_catalogue(tmp_path / "c.ecsv", "ra_x,dec_x").sky.ra.deg == pytest.approx([1.0])
    assert read_external_catalogue(tmp_path / "c.ecsv", "ra_x,DEC").sky.dec.deg == pytest.approx([0.0])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"ra": [np.nan], "dec": [1.0]}, "has no source with a position"),
        ({"ra": [1.0], "dec": [91.0]}, "has no source with a position in ra and dec"),
        ({"ra": [1.0] * u.m, "dec": [1.0]}, "ra and dec of .* are no positions"),
        ({"ra": Column(["1"], unit="m"), "dec": [1.0]}, "ra and dec of .* are no positions"),
        ({"ra": [[1.0, 2.0]], "dec": [[1.0, 2.0]]}, "ra and dec of .* are no positions: a row has more than one"),
        ({"ra": [["1", "2"]], "dec": [["1", "2"]]}, "ra and dec of .* are no positions: a row has more than one"),
        ({"at": SkyCoord([[1.0, 2.0]], [[1.0, 2.0]], unit="deg")}, "at of .*: a row has more than one"),
        ({"at": SkyCoord([1.0], [1.0], unit="deg", frame="altaz")}, "at of .*: frame altaz cannot be turned into ICRS"),
    ],
)
def test_catalogues_without_positions_are_refused(tmp_path, columns, message):
    Table(columns).write(tmp_path / "c.ecsv")
    with pytest.raises(InputError, match=message):
        read_external_catalogue(tmp_path / "c.ecsv")


@pytest.mark.parametrize(("wanted", "message"), [(None, "has no positions"), ("lon,lat", "has no columns lon and lat")])
def test_so_is_a_table_without_positions(wanted, message):
    with pytest.raises(InputError, match=f"^the table {message}.* it has flux$"):
        read_external_catalogue(Table({"flux": [1.0]}), wanted)


TEXTS = {
    "numbers are degrees": ({"ra": ["10.0", "20"], "dec": ["5.0", "-5e0"]}, "icrs"),
    "hours by the unit": ({"ra": Column(["1.0", "2.0"], unit="hourangle"), "dec": ["5", "-5"]}, "icrs"),
    "degrees by the unit": ({"ra": Column(["10:00:00", "20:30:00"], unit="deg"), "dec": ["5", "-5"]}, "icrs"),
    "a unit that nobody knows": ({"ra": Column(["1 0 0", "2 0 0"], unit="h:m:s"), "dec": ["5 0 0", "-5 0 0"]}, "icrs"),
    "letters": ({"ra": ["1h00m00s", "20d30m"], "dec": ["5d", "-5d00m"]}, "icrs"),
    "galactic": ({"GLON": ["10:00:00", "20 30 00"], "GLAT": ["5", "-5 00 00"]}, "galactic"),
}
LONGITUDES = {"hours by the unit": [15, 30], "a unit that nobody knows": [15, 30], "letters": [15, 20.5]}
OTHER_LONGITUDES = {"numbers are degrees": [10, 20], "degrees by the unit": [10, 20.5], "galactic": [10, 20.5]}


# FITS has no hours as a unit.
FILES = [
    (kind, suffix) for kind in TEXTS for suffix in ("ecsv", "fits", "vot") if (kind[:5], suffix) != ("hours", "fits")
]


@pytest.mark.parametrize(("kind", "suffix"), FILES)
@pytest.mark.filterwarnings("ignore::astropy.units.UnitsWarning", "ignore::astropy.io.votable.exceptions.W50")
def test_text_is_degrees_or_sexagesimal(tmp_path, kind, suffix):
    columns, frame = TEXTS[kind]
    path = tmp_path / f"c.{suffix}"
    Table(columns).write(path, **({"format": "votable"} if suffix == "vot" else {}))
    sky = read_external_catalogue(path).sky.transform_to(frame).spherical
    np.testing.assert_allclose(sky.lon.deg, (LONGITUDES | OTHER_LONGITUDES)[kind])
    np.testing.assert_allclose(sky.lat.deg, [5, -5])


GAPS = {
    "blank": {"ra": ["10.0", "", " ", "--", "x", "20.0", "nan"], "dec": ["5"] * 7},
    "masked": {"ra": MaskedColumn(["10.0", *"12345"], mask=[0, 1, 1, 1, 1, 1]), "dec": [5.0] * 6},
    "masked numbers": {"ra": MaskedColumn([10, 11, 20], mask=[0, 1, 0]), "dec": [5, 5, 5]},
    "beyond the poles": {"ra": [10.0] * 4, "dec": [5.0, 90.1, -91.0, np.inf]},
    "text beyond the poles": {"ra": ["10.0"] * 3, "dec": ["5", "95", "-90 30 00"]},
    "coordinates": {"at": SkyCoord(*(Masked([a, a] * u.deg, mask=[False, True]) for a in (10.0, 5.0)))},
}


@pytest.mark.parametrize("kind", GAPS)
def test_rows_without_a_position_are_left_out_and_counted(tmp_path, kind):
    table = Table(GAPS[kind])
    table.write(tmp_path / "c.ecsv")
    found = read_external_catalogue(tmp_path / "c.ecsv")
    left = {"blank": ["1", "6"], "masked numbers": ["1", "3"]}.get(kind, ["1"])
    assert found.names.tolist() == left
    np.testing.assert_allclose(found.sky.ra.deg, [10.0, 20.0][: len(left)])
    assert found.n_without_position == len(table) - len(left)


@pytest.mark.parametrize("suffix", ["ecsv", "fits"])
def test_a_source_without_a_name_has_the_number_of_its_row(tmp_path, suffix):
    names = MaskedColumn(["a", "b", " ", "d"], mask=[False, True, False, False])
    Table({"ra": [1.0, 2.0, 3.0, 4.0], "dec": [0.0] * 4, "name": names}).write(tmp_path / f"c.{suffix}")
    assert read_external_catalogue(tmp_path / f"c.{suffix}").names.tolist() == ["a", "2", "3", "d"]


@pytest.mark.parametrize("part", ["0", "2", "7", "NONE", "²"])
def test_a_table_that_is_not_there_is_refused(tmp_path, part):
    hdus = [fits.PrimaryHDU(), fits.table_to_hdu(Table({"ra": [1.0], "dec": [0.0]})), fits.ImageHDU(np.ones((2, 2)))]
    hdus[1].name = "ONE"
    fits.HDUList(hdus).writeto(tmp_path / "c.fits")
    with pytest.raises(
        InputError, match=f"c.fits has no table {part}; its tables are 1 ONE: give one by number or name"
    ):
        read_external_catalogue(f"{tmp_path / 'c.fits'}[{part}]")
    fits.HDUList(hdus[:1]).writeto(tmp_path / "c.fits", overwrite=True)
    with pytest.raises(InputError, match="its tables are none"):
        read_external_catalogue(f"{tmp_path / 'c.fits'}[{part}]")
