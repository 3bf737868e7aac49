"""From the observatories' own files to a catalogue, by one command: the Crab nebula, and nothing else near it."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from cwt_dask import SurveyRun

CRAB = SkyCoord(83.6333, 22.0145, unit="deg")
HESS = ("hess_dl3_023523.fits.gz", "hess_dl3_023526.fits.gz")
ONTO = ("--frame=icrs", "--center=83.63,22.01", "--size=4,4", "--pixel=0.04", "--projection=TAN")
ESTIMATE = ("--background=estimate", "--background-scale=0.4deg")


@pytest.mark.parametrize(
    ("files", "options", "within", "flux"),
    [
        (
            HESS,
            (*ONTO, *ESTIMATE, "--emin=0.6TeV", "--emax=20TeV", "--psf={folder}/hess_dl3_023523.fits.gz"),
            0.03,
            None,
        ),
        # In 1e-11 / cm2 / s; of Fermi above 10 GeV, of HAWC above 1 TeV, by these data alone.
        (("hawc_nhit5_mapdataset.fits.gz",), ("--band=sum", "--index=2.6"), 0.02, 3.2),
        pytest.param(
            ("fermi_3fhl_crab_mapdataset.fits",), ("--emin=10GeV", "--index=2.2"), 0.02, 660, marks=pytest.mark.long
        ),
    ],
)
def test_the_crab_nebula_is_found(call, real_data, tmp_path, files, options, within, flux):
    words = [word.format(folder=real_data) for word in options]
    quick = ("--significance-threshold=5", "--workers=0", "--no-report", "--fits=no", "--quiet")
    said = call("run", *(real_data / name for name in files), tmp_path / "run", *words, *quick)
    assert said.status == 0, said.err
    rows = SurveyRun.open(tmp_path / "run").catalogue
    distance = CRAB.separation(SkyCoord(rows["ra"], rows["dec"])).to_value(u.deg)
    crab = rows[np.argmax(rows["significance"])]
    assert distance[np.argmax(rows["significance"])] < within
    assert 0.5 < crab["containment"] < 1
    # All else lies at the edges of a map of four by five degrees, or is what noise makes once in so large a map.
    assert np.sum((distance < 1.5) & (rows["excess"] > 10) & (rows["expected_false"] < 0.1)) == 1
    if flux is None:
        assert "photon_flux" not in rows.colnames
    else:
        assert crab["photon_flux"] == pytest.approx(flux * 1e-11, rel=0.05)
