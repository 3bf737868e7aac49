"""Columns of catalogues as they were published, and of others."""

import pytest
from astropy.table import Table

from cwt_dask.inspection.columns import find_name, find_positions

# Columns of positions, of names; the others, as far as they could be taken for either.
CATALOGUES = {
    "3FHL": ("RAJ2000 DEJ2000", "Source_Name", "GLON GLAT Conf_95_SemiMajor ASSOC1 ASSOC_TEV CLASS"),
    "4FGL": ("RAJ2000 DEJ2000", "Source_Name", "GLON GLAT Extended_Source_Name RA_Counterpart DEC_Counterpart"),
    "2HWC": ("ra dec", "source_name", "glon glat pos_err"),
    "3HWC": ("RAdeg DEdeg", "Name", "GLON GLAT e_pos"),
    "HGPS": ("RAJ2000 DEJ2000", "Source_Name", "Identified_Object RAJ2000_Err DEJ2000_Err GLON GLON_Err GLAT GLAT_Err"),
    "1LHAASO": ("RAdeg DEdeg", "Name", "Model e_RAdeg e_DEdeg r39"),
    "gamma-cat": ("ra dec", "common_name", "source_id gamma_names fermi_names other_names glon glat pos_ra pos_dec"),
    "TeVCat": ("RA Dec", "TeVCat Name", "Type|Id"),
    "eRASS1": ("RA DEC", "IAUNAME", "DETUID ID_SRC UID RA_RAW DEC_RAW RA_LOWERR DEC_LOWERR POS_ERR LII BII ELON ELAT"),
    "4XMM": ("RA DEC", "IAUNAME", "DETID SRCID POSERR LII BII SC_RA SC_DEC"),
    "CSC 2": ("ra dec", "name", "err_ellipse_r0 gal_l gal_b ra_aper dec_aper"),
    "2RXS": ("RA_DEG DEC_DEG", "IAU_NAME", "RXS_ID LII BII"),
    "BAT 105 months": ("RA DEC", "BAT_NAME", "CTPT_RA CTPT_DEC CTPT_NAME"),
    "5BZCAT": ("RA (J2000.0)|Dec (J2000.0)", "Source name", "Redshift"),
    "ATNF": ("RAJD DECJD", "NAME", "PSRJ RAJ DECJ GL GB"),
    "Green": ("RAJ2000 DEJ2000", "SNR_ID", "_RAJ2000 _DEJ2000 _RAB1950 _DEB1950 l_S(1GHz)"),
    "Gaia": ("ra dec", "designation", "source_id ra_error dec_error pmra pmdec ra_pmra_corr dec_pmra_corr l b"),
    "Pan-STARRS": ("raMean decMean", "objName", "objID raMeanErr decMeanErr"),
    "WISE": ("ra dec", "designation", "sigra sigdec glon glat cntr"),
    "NED": ("RA(deg)|DEC(deg)", "Object Name", "No.|Type|Velocity"),
    "SIMBAD": ("ra dec", "main_id", "ra_prec dec_prec coo_err_maj"),
    "CDS": ("RAh RAm RAs DE- DEd DEm DEs", "Name", "Seq e_RAs"),
    "SExtractor": ("ALPHA_J2000 DELTA_J2000", "NUMBER", "X_IMAGE ALPHA_SKY DELTA_SKY"),
    "1950": ("RA(1950) DEC(1950)", "ID", "e_RA(1950) e_DEC(1950)"),
    "words": ("Right Ascension (J2000)|Declination (J2000)", "Object", "alpha|delta"),
    "two of different form": ("ra_deg dec_deg", "id", "ra dec ra_hms dec_dms"),
    "none": ("", None, "x y e_RA e_DE ra_err dec_err lon lat"),
}  # fmt: skip


def split(names):
    return tuple(names.split("|") if "|" in names else names.split())


@pytest.mark.parametrize("catalogue", CATALOGUES)
def test_columns_of_catalogues_are_found_by_their_names(catalogue):
    positions, name, others = CATALOGUES[catalogue]
    names = (*split(others), *([name] if name else []), *split(positions))
    for order in (names, names[::-1]):
        table = Table({column: ["1"] for column in order})
        assert [place.columns for place in find_positions(table)] == ([split(positions)] if positions else [])
        assert find_name(table) == name


@pytest.mark.parametrize(
    ("columns", "frame", "told"),
    [
        ("glon_x,glat_y", "", "galactic"),
        ("l_1,b_2", "", "galactic"),
        ("lon,lat", "", "icrs"),
        ("lon,lat", "galactic", "galactic"),
        ("GLON,GLAT", "", "galactic"),
        ("GLON,GLAT", "fk5", "fk5"),
        ("RAJ2000,lat", "", "fk5"),
    ],
)
def test_frames_of_columns_that_are_named(columns, frame, told):
    wanted = tuple(columns.split(","))
    assert [place.frame for place in find_positions(Table({name: ["1"] for name in wanted}), wanted, frame)] == [told]
    assert find_positions(Table({name: ["1"] for name in "abc"}), tuple("abc")) == []
