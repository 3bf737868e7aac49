"""What the pages of the documentation take to be there, in the directory where this is started."""

import tomllib
from pathlib import Path

import numpy as np
import spheres
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from spreads import effective_area, gtpsf, psf_3gauss, psf_map, write

from cwt_dask import run_survey
from cwt_dask.events import ingest_events
from cwt_dask.geometry.facets import pixel_of
from cwt_dask.simulate import simulate

SETTINGS = 'n_scale = 3\nmin_scale = "0.12deg"\nstep_scale = 1.5\nsignificance_threshold = 5\n'


def hdu(plane, header, name, kind=fits.ImageHDU):
    made = kind(plane, header)
    made.header["EXTNAME"] = name
    return made


EDGES = np.array([10.0, 100.0, 1000.0]) * u.GeV


def write_cubes(counts, background, header):
    """Files of two bands as Fermi's tools and Gammapy write them."""
    first = np.random.default_rng(3).binomial(counts.astype(int), 0.9)
    counts = np.stack([first, counts - first])
    background = np.stack([0.9 * background, 0.1 * background])
    exposure = np.stack([np.full(counts.shape[1:], value) for value in (1e11, 2e11, 3e11)])
    bounds = {"CHANNEL": [1, 2], "E_MIN": EDGES[:-1].to("keV"), "E_MAX": EDGES[1:].to("keV")}
    ebounds = fits.BinTableHDU(Table(bounds), name="EBOUNDS")
    energies = fits.BinTableHDU(Table({"Energy": EDGES.to("MeV")}), name="ENERGIES")
    gti = fits.BinTableHDU(Table({"START": [0.0], "STOP": [1.0]}), name="GTI")
    primary = header.copy()
    primary.update({"CTYPE3": "photon energy", "CRVAL3": 1e4, "CDELT3": 9e4, "CUNIT3": "MeV"})
    fits.HDUList([fits.PrimaryHDU(counts, primary), ebounds, gti]).writeto("ccube.fits")
    fits.HDUList([fits.PrimaryHDU(background, primary), ebounds, gti]).writeto("mcube.fits")
    of_exposure = fits.PrimaryHDU(exposure, primary)
    of_exposure.header["BUNIT"] = "cm^2 s"
    fits.HDUList([of_exposure, energies, gti]).writeto("bexpcube.fits")
    parts = [fits.ImageHDU(part * background, primary, name) for name, part in (("galdiff", 0.7), ("isodiff", 0.3))]
    fits.HDUList([fits.PrimaryHDU(counts, primary), ebounds, gti, *parts]).writeto("parts.fits")
    write_source_maps(background.sum(axis=0), ebounds, fits.PrimaryHDU(counts, primary))
    axes = {
        name: {"E_MIN": 100 * EDGES[:-1], "E_MAX": 100 * EDGES[1:]} for name in ("COUNTS", "BACKGROUND", "MASK_SAFE")
    }
    true = np.geomspace(0.1, 1000, 13) * u.TeV
    axes["EXPOSURE"] = {"ENERGY_TRUE_MIN": true[:-1], "ENERGY_TRUE_MAX": true[1:]}
    mask = np.ones(counts.shape, np.uint8)
    mask[0, :, :20] = 0
    planes = {"COUNTS": counts, "BACKGROUND": background, "MASK_SAFE": mask}
    planes["EXPOSURE"] = np.stack([np.full(counts.shape[1:], 1e13 * n) for n in range(12)])
    hdus = [fits.PrimaryHDU()]
    for name, pixels in planes.items():
        hdus.append(fits.ImageHDU(pixels, header, f"cta-{name.lower()}"))
        hdus[-1].header["BANDSHDU"] = f"cta-{name.lower()}_bands"
        hdus.append(fits.BinTableHDU(Table(axes[name]), name=f"cta-{name.lower()}_bands"))
    hdus[-2].header["BUNIT"] = "cm2 s"
    spread = psf_map([[0.12, 0.1, 0.08]], exposure=[[1.0, 2.0, 3.0]])
    fits.HDUList([*hdus, *spread]).writeto("dataset.fits")
    # HAWC's have no prefix, and an energy dispersion.
    for each in hdus[1:]:
        each.name = each.name.upper().removeprefix("CTA-")
        if "BANDSHDU" in each.header:
            each.header["BANDSHDU"] = f"{each.name}_BANDS"
    fits.HDUList([*hdus, *spread, fits.ImageHDU(np.ones((1, 1, 1, 1)), name="EDISP")]).writeto("hawc.fits")
    write("gtpsf.fits", *gtpsf(EDGES.to_value("MeV"), [0.15, 0.12, 0.1]))


def write_source_maps(background, ebounds, counts):
    """Write maps of sources as gtsrcmaps does, a plane an edge of the bands, and their model as gtlike does."""
    energies = EDGES.to_value("MeV")[:, None, None]
    # Nine tenths of all in the first band.
    planes = background * np.array([1.7, 0.1, 0.1])[:, None, None] / np.log(10) / energies
    maps = {"galdiff": 0.7 * planes, "isodiff": 0.3 * planes * (energies / 1e4) ** 2}
    hdus = [fits.ImageHDU(pixels.astype(np.float32), name=name) for name, pixels in maps.items()]
    fits.HDUList([counts, ebounds, *hdus]).writeto("srcmaps.fits")
    spectra = {"galdiff": ('"ConstantValue"', "Value"), "isodiff": ('"FileFunction" file="iso.txt"', "Normalization")}
    sources = (
        f'<source name="{name}" type="DiffuseSource"><spectrum type={kind}><parameter name="{parameter}" value="1" '
        'scale="1" free="1"/></spectrum></source>'
        for name, (kind, parameter) in spectra.items()
    )
    Path("fitted.xml").write_text(f"<source_library>{''.join(sources)}</source_library>")
    Path("iso.txt").write_text("1e3 100\n1e7 1e-6\n")


def write_events():
    """Write events around the Crab nebula as Fermi and as HESS do, and a flat background for the first."""
    rng = np.random.default_rng(1)
    crab = SkyCoord(184.56, -5.78, unit="deg", frame="galactic")
    Path("runs").mkdir()
    for number, name in enumerate(("photons.fits", "runs/run1.fits", "runs/run2.fits")):
        sky = crab.spherical_offsets_by(*(rng.normal(0, 1.5, 20_000) * u.deg for _ in range(2))).icrs
        energy = (10 / rng.uniform(0.01, 1, len(sky))) * (u.GeV if number == 0 else u.TeV)
        events = fits.BinTableHDU(Table({"ENERGY": energy, "RA": sky.ra, "DEC": sky.dec}), name="EVENTS")
        events.header.update({"RADECSYS": "FK5", "EQUINOX": 2000.0, "OBS_ID": number})
        start = 10_000.0 * number
        gti = fits.BinTableHDU(Table({"START": [start], "STOP": [start + 1700]}), name="GTI")
        fits.HDUList([fits.PrimaryHDU(), events, gti]).writeto(name)
    ingest_events("photons.fits", "of-events.fits", center="184.56,-5.78", size="8,6", pixel=0.1)
    model = hdu(np.full((60, 80), 4.0), fits.getheader("of-events.fits"), "BACKGROUND", fits.PrimaryHDU)
    model.writeto("model-of-events.fits")
    # Of the sky about them, 4 counts in pixels of 0.1 deg.
    pixels = spheres.cap(512, crab.cartesian.xyz.value, 3)
    level = np.full(12 * 512**2, 4.0 * (pixel_of(512) / np.radians(0.1)) ** 2)
    spheres.write("model-of-sky.fits", spheres.table("BACKGROUND", level, 512, pixels=pixels))


def write_hess():
    """Write two observations of the Crab nebula as HESS does: events with the responses, and an index of files."""
    rng = np.random.default_rng(2)
    Path("hess").mkdir()
    rows = []
    for number, pointing in enumerate((21.5, 22.5), 1):
        field = np.append(rng.normal(0, 1.0, (4000, 2)), rng.normal((0, 22.01 - pointing), 0.06, (300, 2)), axis=0)
        columns = {"ENERGY": 0.5 / rng.uniform(0.02, 1, 4300) * u.TeV}
        columns |= {
            "RA": (83.63 + field[:, 0] / np.cos(np.radians(22))) * u.deg,
            "DEC": (pointing + field[:, 1]) * u.deg,
        }
        events = fits.BinTableHDU(Table(columns), name="EVENTS")
        events.header.update({"RADECSYS": "FK5", "EQUINOX": 2000.0, "OBS_ID": number, "TELESCOP": "HESS"})
        events.header.update({"RA_PNT": 83.63, "DEC_PNT": pointing})
        gti = fits.BinTableHDU(Table({"START": [2000.0 * number], "STOP": [2000.0 * number + 1700]}), name="GTI")
        spread = psf_3gauss(sigmas=np.array([0.08, 0.07, 0.06, 0.05]), offsets=(0.0, 1.0, 2.0))
        spread.name = "PSF"
        area = effective_area([1e4, 5e4, 1e5, 2e5], offsets=(0.0, 1.0, 2.0))
        write(f"hess/run{number}.fits", events, gti, area, spread)
        rows += [(number, kind, ".", f"run{number}.fits", kind.upper()) for kind in ("events", "gti")]
    names = ("OBS_ID", "HDU_TYPE", "FILE_DIR", "FILE_NAME", "HDU_NAME")
    index = fits.BinTableHDU(Table(rows=rows, names=names), name="HDU_INDEX")
    index.header["HDUCLAS1"] = "INDEX"
    write("hess/hdu-index.fits", index)


def write_sphere():
    """A sky of pixels about a pole, with a source in it."""
    counts, background = spheres.sky(64, [[0.0, 0.1, 0.995]], 300.0)
    pixels = spheres.cap(64, [0, 0, 1], 12)
    found = {"COUNTS": counts, "BACKGROUND": background}
    spheres.write("allsky.fits", *(spheres.table(*each, 64, pixels=pixels) for each in found.items()))
    for projection in ("CAR", "AIT"):
        cards = {"CTYPE1": f"GLON-{projection}", "CTYPE2": f"GLAT-{projection}", "CRPIX1": 180.5, "CRPIX2": 90.5}
        header = fits.Header(cards | {"CDELT1": -1, "CDELT2": 1, "CRVAL1": 0, "CRVAL2": 0})
        y, x = np.indices((180, 360))
        lat = np.nan_to_num(WCS(header).all_pix2world(x, y, 0)[1])
        background = np.cos(np.radians(lat)) if projection == "CAR" else np.ones(lat.shape)
        images = {"COUNTS": np.random.default_rng(2).poisson(background), "BACKGROUND": background}
        images["MASK"] = (lat > 78).astype(np.uint8)
        spheres.write(
            f"allsky-{projection.lower()}.fits", *(hdu(values, header, name) for name, values in images.items())
        )


if __name__ == "__main__":
    simulate("survey.fits", (200, 300), 2, n_sources=15, truth="truth.ecsv")
    with fits.open("survey.fits") as hdus:
        planes = {name: hdus[name].data.copy() for name in ("COUNTS", "BACKGROUND")}
        header = hdus["COUNTS"].header.copy()
        hdus["COUNTS"].data[40:43, 50:53] += 20
        hdus.writeto("survey-v2.fits")
    for name in ("EXTNAME", "XTENSION"):
        header.remove(name, ignore_missing=True)
    counts, background = planes.values()
    on, off = hdu(counts, header, "N_ON"), hdu(background, header, "N_OFF")
    fits.HDUList([fits.PrimaryHDU(), on, off]).writeto("maps.fits")
    hdu(counts, header, "COUNTS", fits.PrimaryHDU).writeto("counts.fits")
    fits.HDUList([fits.PrimaryHDU(), hdu(background, header, "BKG")]).writeto("model.fits")
    hdu(np.ones(counts.shape, np.uint8), header, "MASK", fits.PrimaryHDU).writeto("mask.fits")
    cubes = [hdu(np.stack([plane, plane]), header, name) for name, plane in planes.items()]
    fits.HDUList([fits.PrimaryHDU(), *cubes]).writeto("cube.fits")
    write_events()
    write_hess()
    write_sphere()
    write_cubes(planes["COUNTS"], planes["BACKGROUND"], header)
    truth = Table.read("truth.ecsv")
    for name in ("known.fits", "3fhl.fits"):
        truth["glon", "glat"].write(name)
    Path("settings.toml").write_text(SETTINGS)
    run_survey("survey.fits", "run", workers=0, **tomllib.loads(SETTINGS))
