import numpy as np
import pytest
from astropy.io import fits

SHAPE = (40, 60)


def _wcs_cards(projection="CAR", frame=("GLON", "GLAT"), **more):
    cards = {
        "CTYPE1": f"{frame[0]:-<4}-{projection}",
        "CTYPE2": f"{frame[1]:-<4}-{projection}",
        "CUNIT1": "deg",
        "CUNIT2": "deg",
        "CRPIX1": 30.123456789012345,
        "CRPIX2": 20.5,
        "CRVAL1": 83.63311446123457,
        "CRVAL2": 0.0 if projection == "CAR" else 22.014493212345678,
        "CDELT1": -1 / 30,
        "CDELT2": 1 / 30,
    }
    return {**cards, **more}


@pytest.fixture
def wcs_cards():
    """Cards of a WCS with odd digits in any projection; further keywords are added or replaced."""
    return _wcs_cards


@pytest.fixture
def planes():
    """Counts, background, exposure and mask of a small map, whole numbers of counts."""
    rng = np.random.default_rng(5)
    background = rng.uniform(0.5, 2, SHAPE).astype(np.float32)
    return {
        "counts": rng.poisson(background).astype(np.int32),
        "background": background,
        "exposure": np.full(SHAPE, 1e11, np.float32),
        "mask": (rng.random(SHAPE) > 0.1).astype(np.uint8),
    }


@pytest.fixture
def two(planes):
    """Counts and background alone."""
    return {name: planes[name] for name in ("counts", "background")}


@pytest.fixture
def write(tmp_path):
    """Write planes to a FITS file; each one's HDU has its name in capitals, the first one is the primary.

    Options of tiles compress each of them tile by tile, without loss.
    """

    def write_fits(name="survey.fits", wcs=None, primary_first=True, tiles=None, **planes):
        header = fits.Header()
        header.update(_wcs_cards() if wcs is None else wcs)
        hdus = [] if primary_first and tiles is None else [fits.PrimaryHDU()]
        for plane, data in planes.items():
            if tiles is None:
                hdu = (fits.ImageHDU if hdus else fits.PrimaryHDU)(data, header.copy())
            else:
                # quantize_level 0 keeps floats to the last bit, with the algorithms that can.
                lossless = {"quantize_level": 0, "compression_type": "GZIP_1"} if data.dtype.kind == "f" else {}
                hdu = fits.CompImageHDU(data, header.copy(), **{**tiles, **lossless})
            hdu.header["EXTNAME"] = plane.upper()
            hdus.append(hdu)
        path = tmp_path / name
        fits.HDUList(hdus).writeto(path)
        return path

    return write_fits
