"""What the pages of the documentation take to be there, in the directory where this is started."""

import tomllib
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from cwt_dask import run_survey
from cwt_dask.simulate import simulate

SETTINGS = 'n_scale = 3\nmin_scale = "0.12deg"\nstep_scale = 1.5\nsignificance_threshold = 5\n'


def hdu(plane, header, name, kind=fits.ImageHDU):
    made = kind(plane, header)
    made.header["EXTNAME"] = name
    return made


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
    truth = Table.read("truth.ecsv")
    for name in ("known.fits", "3fhl.fits"):
        truth["glon", "glat"].write(name)
    Path("settings.toml").write_text(SETTINGS)
    run_survey("survey.fits", "run", workers=0, **tomllib.loads(SETTINGS))
