"""Texts of all kinds, as other people write them: what is in the file tells, not how it is called."""

import gzip

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.table import Table

from cwt_dask.errors import InputError
from cwt_dask.inspection import bounds
from cwt_dask.inspection.external import read_external_catalogue
from cwt_dask.inspection.tables import read_tables

SKY = SkyCoord([10.0, 20.0], [5.0, -5.0], unit="deg")
ROWS = "A 1,10,5\nB,20,-5\n"
VIZIER = """#
#   VizieR Astronomical Server
#RESOURCE=yCat_00000000
#Name: J/A+A/0/0
#Table	J_A_A_0_0_refs:
#Column	Ref	(I2)	Reference number	[ucd=meta.ref]
Ref
\x20
---
  1

#Table	J_A_A_0_0_table1:
#Column	_RAJ2000	(F8.4)	Right ascension, computed	[ucd=pos.eq.ra]
#Column	_DEJ2000	(F8.4)	Declination, computed	[ucd=pos.eq.dec]
#Column	SNR	(A11)	Name	[ucd=meta.id;meta.main]
#Column	X	(A11)	Right ascension	[ucd=pos.eq.ra;meta.main]
#Column	Y	(A11)	Declination	[ucd=pos.eq.dec;meta.main]
_RAJ2000	_DEJ2000	SNR	X	Y
deg	deg	 	"h:m:s"	"d:m:s"
--------	--------	-----------	-----------	--------
 99.0000	+09.0000	A 1        	00 40 00.00	+05 00 00
 99.0000	-09.0000	B          	01 20 00.00	-05 00 00
"""
MRT = f"""Title: A table
Authors: Somebody
Table: Sources
{80 * "="}
Byte-by-byte Description of file: table.dat
{80 * "-"}
 Bytes Format Units  Label Explanations
{80 * "-"}
  1- 3 A3     ---    Name  Name
  5- 6 I2     h      RAh   Hour of right ascension
  8- 9 I2     min    RAm   Minute
 11-14 F4.1   s      RAs   Second
    16 A1     ---    DE-   Sign of declination
 17-18 I2     deg    DEd   Degree
 20-21 I2     arcmin DEm   Minute
 23-24 I2     arcsec DEs   Second
{80 * "-"}
A 1 00 40 00.0 +05 00 00
B   01 20 00.0 -05 00 00
"""
ECSV = """# %ECSV 1.0
# ---
# delimiter: ','
# datatype:
# - {name: name, datatype: string}
# - {name: ra, unit: hourangle, datatype: float64}
# - {name: dec, unit: deg, datatype: float64}
"""
HOURS = "A 1,0.6666666666666666,5\nB,1.3333333333333333,-5\n"
TEXTS = {
    "commas": f"name,ra,dec\n{ROWS}",
    "byte order mark": f"\ufeffname,ra,dec\n{ROWS}",
    "semicolons, units in names": "name;RA (deg);DEC [Degrees]\nA 1;10;5\nB;20;-5\n",
    "tabs": "name\tRA_J2000\tDEC_J2000\nA 1\t10\t5\nB\t20\t-5\n",
    "bars": "|name|ra|dec|\n|----|--|---|\n| A 1|10|5|\n|B|20|-5|\n",
    "blanks": 'name  ra   dec\n"A 1" 10.0 5.0\nB     20.0 -5.0\n',
    "quotes and a column without a name": ',name,ra,dec,\n0,"A 1",10,5,\n1,B,20,-5,\n',
    "two catalogues, joined": "name,ra,dec,name,ra,dec\nA 1,10,5,a,11,6\nB,20,-5,b,21,-6\n",
    "names of columns as a comment": f"# found in 2020\n#name, ra, dec\n{ROWS}",
    "a comment with as many words": '# ra and dec\n#name ra dec\n"A 1" 10 5\nB 20 -5\n',
    "units below, spelled out": f"name,ra,dec\n,degrees,DEG\n{ROWS}",
    "hours below": f"name,ra,dec\n,hours,deg\n{HOURS}",
    "hours in the name": f"name,RA_hours,Dec_deg\n{HOURS}",
    "hours by unit": f"{ECSV}name,ra,dec\n{HOURS}",
    "colons": "name,ra,dec\nA 1,00:40:00,+05:00:00\nB,01:20:00.0,-05:00:00.0\n",
    "sixty seconds": "name,ra,dec\nA 1,00:39:60,+04:59:60\nB,01:19:60.0,-04:59:60.0\n",
    "letters, and the minus of papers": "name,ra,dec\nA 1,00h40m00s,+05d00m00s\nB,01h20m00.0s,\u221205d00m00s\n",
    "both in one column": "name,Position\nA 1,00:40:00 +05:00:00\nB,01 20 00 -05 00 00\n",
    "both in one column, between blanks": 'name pos mag\n"A 1" 00:40:00 +05:00:00 3\nB 01 20 00 -05 00 00 4\n',
    "no unit of the name": f"name,ra,dec\nNaN,hours,deg\n{HOURS}",
    "galactic": f"name,l,b\nA 1,{SKY.galactic.l.deg[0]},{SKY.galactic.b.deg[0]}\n"
    f"B,{SKY.galactic.l.deg[1]},{SKY.galactic.b.deg[1]}\n",
    "RDB": "# comment\nname\tra\tdec\n10S\t8N\tN\nA 1\t10\t5\nB\t20\t-5\n",
    "VizieR": VIZIER,
    "VizieR, columns below each other": "name   _RAJ2000 _DEJ2000\n       deg      deg\n------ -------- -----\n"
    "A 1    10.0000  +05.0\nB      20.0000  -05.0\n",
    "MRT": MRT,
    "IPAC": "\\fixlen = T\n| name| ra   | dec  |\n| char|double|double|\n|     | deg  | deg  |\n| null| null | null |\n"
    " A 1   10.0   5.0   \n B     20.0   -5.0  \n",
    "LaTeX": "\\begin{tabular}{ccc}\nname & ra & dec \\\\\nA 1 & 10 & 5 \\\\\nB & 20 & -5 \\\\\n\\end{tabular}\n",
    "HTML": "<html><table><tr><th>name</th><th>ra</th><th>dec</th></tr><tr><td>A 1</td><td>10</td><td>5</td></tr>"
    "<tr><td>B</td><td>20</td><td>-5</td></tr></table></html>",
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_text_is_read_whatever_the_file_is_called(tmp_path, kind):
    content = TEXTS[kind].encode()
    utf16 = TEXTS[kind].strip("\ufeff").encode("utf-16")
    for name, written in {"c.CSV": content, "c.tsv.gz": gzip.compress(content), "c.fits": utf16}.items():
        (tmp_path / name).write_bytes(written)
        found = read_external_catalogue(tmp_path / name)
        assert SKY.separation(found.sky).max() < 0.1 * u.arcsec, name
        assert found.names.tolist() == ["A 1", "B"], name
        assert (found.n_without_position, found.n_comments) == (0, 0)


def test_sextractor_s_columns(tmp_path):
    (tmp_path / "c.cat").write_text(
        "#   1 NUMBER     Number\n#   2 ALPHA_J2000  RA [deg]\n#   3 DELTA_J2000  Dec [deg]\n"
        " 7 10.0 5.0\n 8 20.0 -5.0\n"
    )
    found = read_external_catalogue(tmp_path / "c.cat")
    assert (found.names.tolist(), found.sky.ra.deg.tolist()) == (["7", "8"], pytest.approx([10, 20], abs=1e-4))


def test_rows_that_are_not_read_are_counted(tmp_path):
    (tmp_path / "c.txt").write_text(f"#name,ra,dec\n#1,10,5\n# 2,,9\n# more follow\n{ROWS}C,,\nD,12h,x\n#3,1,2\n")
    found = read_external_catalogue(tmp_path / "c.txt")
    assert (found.names.tolist(), found.n_without_position, found.n_comments) == (["A 1", "B"], 2, 3)


def test_a_row_below_the_names_that_is_no_unit(tmp_path):
    (tmp_path / "c.txt").write_text("name,ra,dec\nD,nan,nan\nA 1,10,5\n")
    found = read_external_catalogue(tmp_path / "c.txt")
    assert (found.names.tolist(), found.n_without_position) == (["A 1"], 1)


def test_letters_of_an_older_encoding(tmp_path):
    (tmp_path / "c.csv").write_bytes("name,ra,dec\nÄ,1,2\n".encode("latin-1"))
    assert read_external_catalogue(tmp_path / "c.csv").names.tolist() == ["Ä"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has no rows"),
        (b"# name,ra,dec\n", "it has no rows"),
        (b"name,ra,dec\nA, 1,10,5\n", "row 1 has 4 cells where there are 3 columns"),
        (b"name ra dec\nA 1 5\nB 5\n", "row 2 has 2 cells where there are 3 columns"),
        (b'name,ra,dec\n"A,10,5\nB,20,-5\n', "unexpected end of data"),
        (b"\0\1\2", "Format could not be identified"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, message):
    (tmp_path / "c.dat").write_bytes(content)
    with pytest.raises(InputError, match=rf"c.dat cannot be read as a table \({message}"):
        read_external_catalogue(tmp_path / "c.dat")


VOTABLE = "<VOTABLE><RESOURCE><TABLE{}>{}<DATA>{}</DATA></TABLE></RESOURCE></VOTABLE>"
FIELD = '<FIELD name="ra" datatype="double" arraysize="{}"/>'
HREF = VOTABLE.format("", FIELD.format("1"), '<{0}><STREAM href="{1}"/></{0}>')
BOMB = '<!DOCTYPE VOTABLE [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
CUT = ": cut out what lies near the map"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HREF.format("BINARY", "http://127.0.0.1:9/x"), "its data are in another file"),
        (HREF.format("FITS", "file:///etc/passwd"), "its data are in another file"),
        (HREF.replace("STREAM", "v:STREAM").format("BINARY2", "ftp://x/y"), "its data are in another file"),
        (BOMB + VOTABLE.format("", "", ""), "it defines abbreviations .ENTITY.: save it without"),
        (VOTABLE.format(' nrows="1000000000000"', FIELD.format("1"), ""), f"a table of it takes more than 1 GiB{CUT}"),
        (VOTABLE.format("", FIELD.format("10000x90000*"), "<TABLEDATA><TR/></TABLEDATA>"), "a table of it takes more"),
        ("name,ra,dec\n" + "A,1,2\n" * 2000, f"it holds more than 9.3.*e-06 GiB{CUT}"),
    ],
)
def test_what_would_open_other_files_or_fill_the_memory_is_refused(tmp_path, monkeypatch, content, message):
    if "GiB" in message and "1 GiB" not in message:
        monkeypatch.setattr(bounds, "LARGEST", 10_000)
    (tmp_path / "c.vot.gz").write_bytes(gzip.compress(content.encode()))
    with pytest.raises(InputError, match=rf"c.vot.gz cannot be read as a table \({message}"):
        read_external_catalogue(tmp_path / "c.vot.gz")


@pytest.mark.parametrize("cards", [{"NAXIS2": 10**12}, {"NAXIS1": 0, "NAXIS2": 10**12}, {"PCOUNT": 10**13}])
def test_a_table_of_fits_that_says_it_is_larger_than_a_catalogue_may_be_is_refused(tmp_path, cards):
    table = fits.BinTableHDU(Table({"ra": [1.0], "dec": [2.0]}))
    table.header.update(cards)
    # As it stands, whatever astropy would mend.
    text = table.header.tostring().encode()
    (tmp_path / "c.fits").write_bytes(fits.PrimaryHDU().header.tostring().encode() + text)
    with pytest.raises(InputError, match=f"a table of it takes more than 1 GiB{CUT}"):
        read_external_catalogue(tmp_path / "c.fits")


def test_columns_without_names_can_be_chosen(tmp_path):
    (tmp_path / "c.csv").write_text(ROWS)
    with pytest.raises(
        InputError, match="has no positions: .* which they are, --columns LON,LAT; it has col1, col2, col3"
    ):
        read_external_catalogue(tmp_path / "c.csv")
    assert SKY.separation(read_external_catalogue(tmp_path / "c.csv", "col2, col3").sky).max() < 1e-9 * u.deg
    with pytest.raises(InputError, match="has no columns col2 and col9: it has col1, col2, col3"):
        read_external_catalogue(tmp_path / "c.csv", "col2,col9")


def test_positions_may_be_in_any_table_of_a_file(tmp_path):
    tables = [
        Table({"size": [1.0]}),
        Table({"x": [10.0], "y": [5.0], "who": ["A"]}),
        Table({"ra": [1.0], "dec": [1.0]}),
    ]
    ucds = "pos.eq.ra;meta.main", "pos.eq.dec;meta.main", "meta.id;meta.main"
    hdus = [fits.table_to_hdu(table) for table in tables]
    hdus[1].header.update(zip(("TUCD1", "TUCD2", "TUCD3"), ucds, strict=True))
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "c.fits")
    document = from_table(tables[1])
    for field, ucd in zip(document.get_first_table().fields, ucds, strict=True):
        field.ucd = ucd
    document.resources.insert(0, from_table(tables[0]).resources[0])
    document.to_xml(str(tmp_path / "c.xml"))
    for name in ("c.fits", "c.xml", "c.xml[2]"):
        found = read_external_catalogue(tmp_path / name)
        assert (found.names.tolist(), found.sky.ra.deg.tolist(), str(found.place)) == (["A"], [10.0], "x and y")
    (tmp_path / "c.tsv").write_text(VIZIER)
    assert [(number, name) for number, name, _ in read_tables(tmp_path / "c.tsv")] == [
        (1, "J_A_A_0_0_refs"),
        (2, "J_A_A_0_0_table1"),
    ]
    np.testing.assert_allclose(read_external_catalogue(f"{tmp_path}/c.tsv[j_a_a_0_0_table1]").sky.ra.deg, [10, 20])
    with pytest.raises(InputError, match=r"c.tsv has no table 3; its tables are 1 J_A_A_0_0_refs, 2 J_A_A_0_0_table1"):
        read_external_catalogue(f"{tmp_path}/c.tsv[3]")
