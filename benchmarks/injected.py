"""Skies with sources at known places, written as surveys, for benchmarks/catalogue.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy.special import ndtr

# Small, so that pixels are square on the whole of a map.
PIXEL_DEG = 0.01
PSF = 1.3
# Widths in pixels and shares: the point spread function alone, and with tails.
GAUSSIAN = ((PSF, 1.0),)
WITH_TAILS = ((PSF, 0.8), (3.0, 0.15), (8.0, 0.05))
# Pixels to each side of the image of the one with tails, and widths that a source is drawn to.
_IMAGE, _DRAWN = 40, 7

Profile = tuple[tuple[float, float], ...]


def add_source(expected: NDArray[np.float64], y: float, x: float, counts: float, profile: Profile) -> None:
    """Add the counts of a source that are expected in each pixel."""
    for sigma, share in profile:
        near, parts = [], []
        for centre, length in zip((y, x), expected.shape, strict=True):
            low = max(int(centre - _DRAWN * sigma), 0)
            edges = np.arange(low, min(int(centre + _DRAWN * sigma) + 2, length) + 1) - 0.5
            near.append(slice(low, low + len(edges) - 1))
            parts.append(np.diff(ndtr((edges - centre) / sigma)))
        expected[tuple(near)] += counts * share * np.outer(*parts)


def wider(profile: Profile, extension: float) -> Profile:
    """The profile of a Gaussian source of this width."""
    return tuple((float(np.hypot(sigma, extension)), share) for sigma, share in profile)


def image_of(profile: Profile) -> NDArray[np.float64]:
    """The point spread function as an image."""
    image = np.zeros((2 * _IMAGE + 1, 2 * _IMAGE + 1))
    add_source(image, _IMAGE, _IMAGE, 1.0, profile)
    return image / image.sum()


def regular(shape: tuple[int, int], spacing: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], ...]:
    """Places so far apart, each anywhere within its pixel."""
    middles = (np.arange(spacing // 2, length - spacing // 3, spacing) for length in shape)
    y, x = (middle.ravel().astype(float) for middle in np.meshgrid(*middles, indexing="ij"))
    return y + rng.uniform(-0.5, 0.5, len(y)), x + rng.uniform(-0.5, 0.5, len(x))


def structured(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """A background with a plane, and clouds of power k^-3 cut below 5 pixels."""
    away = np.abs(np.arange(shape[0]) - shape[0] / 2)
    plane = 0.05 + 4 * np.exp(-away / 12) + 0.4 * np.exp(-0.5 * (away / 60) ** 2)
    k = np.hypot(np.fft.fftfreq(shape[0])[:, np.newaxis], np.fft.rfftfreq(shape[1]))
    k[0, 0] = np.inf
    waves = np.fft.rfft2(rng.standard_normal(shape)) * k**-1.5 * np.exp(-0.5 * (k * 2 * np.pi * 5) ** 2)
    waves[0, 0] = 0
    clouds = np.fft.irfft2(waves, shape)
    return plane[:, np.newaxis] * np.exp(0.6 * clouds / clouds.std() - 0.18)


def background_of(kind: float | str, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """A flat one of so many counts a pixel, or "structured"."""
    return structured(shape, rng) if isinstance(kind, str) else np.full(shape, float(kind))


def write_survey(path: Path, counts: NDArray[np.int64], background: NDArray[np.float64]) -> Path:
    """Write a survey in plate carree projection on the Galactic centre."""
    header = fits.Header()
    for axis, name, length, sign in ((1, "GLON-CAR", counts.shape[1], -1), (2, "GLAT-CAR", counts.shape[0], 1)):
        cards = {"CTYPE": name, "CUNIT": "deg", "CRPIX": (length + 1) / 2, "CRVAL": 0.0, "CDELT": sign * PIXEL_DEG}
        header.update({f"{card}{axis}": value for card, value in cards.items()})
    images = fits.ImageHDU(counts.astype(np.int32), header, "COUNTS"), fits.ImageHDU(background, header, "BACKGROUND")
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path, overwrite=True)
    return path
