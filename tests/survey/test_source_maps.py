"""Maps of gtsrcmaps, times the spectra of a source model: as gtmodel has it, and as a numerical integral."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from scipy.integrate import quad
from skies import sky_header

from cwt_dask.errors import SurveyError
from cwt_dask.survey import SurveySource, describe_origin, ingest, scan
from cwt_dask.survey.spectra import SourceModel

SHAPE = (6, 8)
RNG = np.random.default_rng(5)


def spectrum(kind, *, table="", **parameters):
    rows = "".join(
        f'<parameter free="1" max="9" min="0" name="{name}" scale="{scale}" value="{value}"/>'
        for name, (value, scale) in parameters.items()
    )
    return f'<spectrum type="{kind}"{f" file={table!r}" if table else ""} apply_edisp="false">{rows}</spectrum>'


def write_model(path, **spectra):
    sources = "".join(
        f'<source name="{name}" type="DiffuseSource">{each}<spatialModel type="ConstantValue"/></source>'
        for name, each in spectra.items()
    )
    path.write_text(f'<?xml version="1.0" ?>\n<source_library title="model">{sources}</source_library>\n')
    return path


def ebounds(edges):
    rows = {"E_MIN": (edges[:-1] * u.MeV).to("keV"), "E_MAX": (edges[1:] * u.MeV).to("keV")}
    return fits.BinTableHDU(Table(rows), name="EBOUNDS")


def write_maps(path, edges, **maps):
    """As gtsrcmaps writes it: counts and their bands, then a map a source at the edges of bands, without a WCS."""
    counts = RNG.poisson(3, (len(edges) - 1, *SHAPE)).astype(np.int32)
    hdus = [fits.PrimaryHDU(counts, sky_header(SHAPE)), ebounds(edges)]
    hdus += [fits.ImageHDU(planes.astype(np.float32), name=name) for name, planes in maps.items()]
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


KINDS = {
    "ConstantValue": ({"Value": (0.7, 2.0)}, lambda _: 1.4),
    "PowerLaw": ({"Prefactor": (2, 1e-9), "Index": (2.3, -1), "Scale": (3e3, 1)}, lambda e: 2e-9 * (3e3 / e) ** 2.3),
    "PowerLaw2": (
        {"Integral": (2, 1e-8), "Index": (-2, 1), "LowerLimit": (100, 1), "UpperLimit": (1e4, 1)},
        lambda e: 2e-8 / e**2 / (1 / 100 - 1 / 1e4),
    ),
    "BrokenPowerLaw": (
        {"Prefactor": (2, 1e-9), "Index1": (1.5, -1), "Index2": (-2.5, 1), "BreakValue": (4e3, 1)},
        lambda e: 2e-9 * (4e3 / e) ** (1.5 if e < 4e3 else 2.5),
    ),
    "LogParabola": (
        {"norm": (2, 1e-9), "alpha": (2.1, 1), "beta": (0.1, 1), "Eb": (1, 1e3)},
        lambda e: 2e-9 * np.exp(-2.1 * np.log(e / 1e3) - 0.1 * np.log(e / 1e3) ** 2),
    ),
    "PLSuperExpCutoff": (
        {"Prefactor": (2, 1e-9), "Index1": (1.7, -1), "Scale": (1e3, 1), "Cutoff": (5e3, 1), "Index2": (0.6, 1)},
        lambda e: 2e-9 * (e / 1e3) ** -1.7 / np.exp((e / 5e3) ** 0.6),
    ),
    "PLSuperExpCutoff2": (
        {"Prefactor": (2, 1e-9), "Index1": (1.7, -1), "Scale": (1e3, 1), "Expfactor": (7, 1e-3), "Index2": (0.67, 1)},
        lambda e: 2e-9 * (e / 1e3) ** -1.7 / np.exp(7e-3 * e**0.67),
    ),
    "PLSuperExpCutoff4": (
        {"Prefactor": (2, 1e-9), "IndexS": (2.2, -1), "Scale": (1e3, 1), "ExpfactorS": (6, 0.1), "Index2": (0.5, 1)},
        lambda e: 2e-9 * (e / 1e3) ** (-2.2 + 0.6 / 0.5) * np.exp(0.6 / 0.5**2 * (1 - (e / 1e3) ** 0.5)),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_spectra_are_those_of_fermis_tools(tmp_path, kind):
    parameters, formula = KINDS[kind]
    model = SourceModel.read(write_model(tmp_path / "m.xml", other=spectrum("Gone"), Iso=spectrum(kind, **parameters)))
    energies = np.geomspace(100, 1e5, 31)
    np.testing.assert_allclose(model.spectrum("ISO", energies), [formula(e) for e in energies], rtol=1e-12)


def test_a_spectrum_with_a_curvature_is_smooth_where_it_is_computed_in_another_way(tmp_path):
    parameters = KINDS["PLSuperExpCutoff4"][0] | {"Index2": (1e-9, 1)}
    model = SourceModel.read(write_model(tmp_path / "m.xml", psr=spectrum("PLSuperExpCutoff4", **parameters)))
    energies = np.geomspace(100, 1e5, 31)
    log = np.log(energies / 1e3)
    np.testing.assert_allclose(model.spectrum("psr", energies), 2e-9 * np.exp(-2.2 * log - 0.3 * log**2))
    near = 1e3 * np.exp(0.02 * np.array([1 - 1e-9, 1 + 1e-9]))
    model = SourceModel.read(
        write_model(tmp_path / "m.xml", psr=spectrum("PLSuperExpCutoff4", **KINDS["PLSuperExpCutoff4"][0]))
    )
    assert np.diff(np.log(model.spectrum("psr", near)))[0] == pytest.approx(-2.2 * 4e-11, rel=0.05)


def test_a_spectrum_in_a_file_is_joined_by_power_laws(tmp_path, monkeypatch):
    (tmp_path / "iso.txt").write_text("# MeV, per MeV\n100 4e-7 1e-9\n\n1000 4e-9 1e-9\n100000 4e-14\n")
    monkeypatch.setenv("HERE", str(tmp_path))
    for named in ("iso.txt", "$(HERE)/iso.txt", "$HERE/iso.txt"):
        iso = spectrum("FileFunction", table=named, Normalization=(0.5, 2))
        model = SourceModel.read(write_model(tmp_path / "m.xml", iso=iso))
        found = model.spectrum("iso", np.array([100, 200, 1e3, 1e4, 1e5]))
        np.testing.assert_allclose(found, [4e-7, 1e-7, 4e-9, 4e-9 / 10**2.5, 4e-14])
        assert [each["what"] for each in model.files] == ["source model", "spectrum"]
        for each in model.files:
            assert each["sha256"] == hashlib.sha256(Path(each["file"]).read_bytes()).hexdigest()


@pytest.mark.parametrize("per_decade", [5, 10, 40])
def test_counts_are_the_integral_over_the_band_but_for_what_the_page_says(tmp_path, per_decade):
    edges = np.geomspace(1e3, 1e5, 2 * per_decade + 1)
    template = RNG.uniform(1, 9, SHAPE)
    # What exposure and point spread function make of it goes as a power of the energy.
    maps = write_maps(tmp_path / "maps.fits", edges, iso=template * (edges[:, None, None] / 1e3) ** 0.3)
    model = write_model(tmp_path / "m.xml", iso=spectrum("PowerLaw", **KINDS["PowerLaw"][0]))
    store = ingest(maps, tmp_path / "s.zarr", background=f"{maps}[iso]", source_model=model, band="sum", counts_hdu=0)
    integral, _ = quad(lambda e: KINDS["PowerLaw"][1](e) * (e / 1e3) ** 0.3, 1e3, 1e5, epsrel=1e-10)
    more = ((2.3 - 0.3 - 1) * np.log(10) / per_decade) ** 2 / 12
    np.testing.assert_allclose(store.background.compute() / (template * integral) - 1, more, rtol=0.02)


def test_components_are_summed_with_their_spectra_as_gtmodel_does(tmp_path):
    edges = np.geomspace(1e3, 1e5, 6)
    planes = {name: RNG.uniform(1, 9, (6, *SHAPE)).astype(np.float32) for name in ("galdiff", "Iso v1", "psr")}
    maps = write_maps(tmp_path / "maps.fits", edges, **planes)
    used = {"galdiff": "ConstantValue", "Iso v1": "LogParabola"}
    model = write_model(
        tmp_path / "m.xml",
        **{name: spectrum(kind, **KINDS[kind][0]) for name, kind in used.items()},
        psr=spectrum("BandFunction"),
    )
    expected = np.zeros((5, *SHAPE))
    for name, kind in used.items():
        y = planes[name] * np.array([KINDS[kind][1](e) for e in edges])[:, None, None] * edges[:, None, None]
        expected += (y[:-1] + y[1:]) / 2 * np.log(edges[1:] / edges[:-1])[:, None, None]
    asked = {"background": f"{maps}[galdiff,Iso v1]", "source_model": model, "counts_hdu": 0}
    for chosen, bands in (
        ({"band": "sum"}, slice(0, 5)),
        ({"band": 3}, slice(3, 4)),
        ({"emin": "2.5GeV"}, slice(1, 5)),
    ):
        store = ingest(maps, tmp_path / f"{bands}.zarr", **asked, **chosen)
        np.testing.assert_allclose(store.background.compute(), expected[bands].sum(axis=0), rtol=1e-12)
    counts, galactic, isotropic = store.statistics.origins
    assert (galactic["bands"], galactic["energies"]) == (counts["bands"], counts["energies"])
    assert describe_origin(isotropic).endswith(f"times the spectrum LogParabola of {model}")
    # Counts of gtmodel may stand among them.
    counted = fits.PrimaryHDU(np.ones((5, *SHAPE)), sky_header(SHAPE))
    fits.HDUList([counted, ebounds(edges)]).writeto(tmp_path / "mcube.fits")
    asked["background"] = [f"{maps}[galdiff]", f"{maps}[iso v1]", tmp_path / "mcube.fits"]
    found = scan(SurveySource.of(maps, **asked, band="sum")).background_sum
    assert found == pytest.approx(expected.sum() + 5 * SHAPE[0] * SHAPE[1])


def test_maps_of_counts_without_energies_are_refused(tmp_path):
    maps = write_maps(tmp_path / "maps.fits", np.geomspace(1, 10, 3), iso=np.ones((3, *SHAPE)))
    model = write_model(tmp_path / "m.xml", iso=spectrum("ConstantValue", Value=(1, 1)))
    with fits.open(maps) as hdus:
        del hdus["EBOUNDS"]
        hdus.writeto(tmp_path / "without.fits")
    source = SurveySource.of(
        tmp_path / "without.fits", background=f"{maps}[iso]", source_model=model, band=0, counts_hdu=0
    )
    with pytest.raises(
        SurveyError, match="does not say the energies of its bands, over which HDU ISO of .*: give counts"
    ):
        scan(source)
