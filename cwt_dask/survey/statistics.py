"""What one pass over a survey measures, and the values that it refuses."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from cwt_dask.config.settings import digest
from cwt_dask.config.validation import counted
from cwt_dask.cwt.arrays import Bools, Floats
from cwt_dask.cwt.inputs import LARGEST, NEGATIVE_BY_ROUNDING, NO_EXCESS
from cwt_dask.cwt.pixels import rounding_of
from cwt_dask.errors import SurveyError
from cwt_dask.survey.source import MaskChoice
from cwt_dask.survey.sphere import Sphere, covered_by
from cwt_dask.survey.strip import Strip

# Below this share of Poisson's, the scatter of neighbours is no chance: it is 10 standard deviations off for the least
# number of counts that is judged.
_SMOOTH_SCATTER = 0.5
_LEAST_COUNTS = 1000

# Background and counts are not in the same unit where they differ by more.
_ORDERS = 100
# Fewer pixels than that are no field of view.
_LEAST_SHARE = 0.1

# Counts a pixel that are no background: a map of a billion such pixels would have one count.
_NO_BACKGROUND = 1e-9


@dataclass(frozen=True)
class SurveyStatistics:
    """What is known of a survey before it is analysed."""

    shape: tuple[int, int]  # Rows and columns.
    n_valid: int  # Pixels that are used.
    # Pixels that are not used: ``n_off_sky``, ``n_nan`` and, the rest, those on the sky that MASK excludes.
    n_masked: int
    n_off_sky: int  # Pixels without a sky position in this projection, with any value and any MASK.
    n_nan: int  # Pixels on the sky that MASK would have used, with counts or background NaN.
    brightest: float  # Largest valid value of counts or background, in counts a pixel.
    # Sums over the valid pixels, in counts.
    counts_sum: float
    background_sum: float
    # SHA-256 of the shape, the WCS cards, the exposure's unit and the values of all planes (masked pixels being 0);
    # independent of format, byte order and compression of the files.
    digest: str
    pixel_scale_deg: float  # Pixel size at the map's centre, in degrees.
    wraps: bool  # Whether the columns close a circle of 360 deg, so that the last is the first one's neighbour.
    warnings: tuple[str, ...]  # What a user should know of these data.
    # Unit of the exposure, as astropy reads it; empty where there is no exposure, or none that says its unit.
    exposure_unit: str = ""
    mask: str = ""  # HDU of the mask; empty where there is none.
    planes: dict[str, str] = field(default_factory=dict)  # SHA-256 of the values of each; of earlier stores none.
    # As of `cwt_dask.survey.origin.origins_of`; of earlier stores none. The same survey may come from other files.
    origins: tuple[dict[str, Any], ...] = field(default=(), compare=False)
    # As of `cwt_dask.survey.origin.files_of`; of earlier stores none.
    files: tuple[dict[str, str], ...] = field(default=(), compare=False)
    background: str = ""  # How the background was estimated from the counts; empty where it was not.
    sphere: Sphere | None = None  # Where the map is one of the sphere; None of flat maps.

    @property
    def facts_digest(self) -> str:
        """SHA-256 of all of this but warnings, origins and files.

        Numbers have as many digits as all machines agree on.
        """
        # Each task asks for it: no deep copies of thousands of cells.
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        facts = {name: f"{fact:.9g}" if isinstance(fact, float) else fact for name, fact in known.items()}
        del facts["origins"], facts["files"]
        if not self.background:
            # Earlier releases knew of no such fact.
            del facts["background"]
        if self.sphere:
            facts["sphere"] = {"nside": self.sphere.nside, "covered": self.sphere.covered}
        else:
            del facts["sphere"]
        return digest(facts | {"warnings": ()})

    @property
    def no_flux(self) -> str:
        """Why the catalogue has no photon flux; empty if it has, and where a warning says it already."""
        if self.exposure_unit or not self.planes or any("no photon flux" in warning for warning in self.warnings):
            return ""
        if "exposure" not in self.planes:
            return "the survey has no exposure"
        return "the exposure has no unit (BUNIT): say it, --exposure-unit 'cm2 s'"

    def is_of(self, header_text: str) -> bool:
        """Whether these are the WCS cards that `digest` covers."""
        return self.digest == digest_survey(self.shape, f"{header_text}{self.exposure_unit}", self.planes)

    @property
    def used(self) -> str:
        """How many pixels are used and why the others are not; empty where all are, and there is no mask."""
        by_mask = self.n_masked - self.n_off_sky - self.n_nan
        others = [f"masked by {self.mask}: {by_mask}"] if self.mask else []
        others += [f"{why}: {n}" for n, why in ((self.n_nan, "NaN"), (self.n_off_sky, "off the sky")) if n]
        return f"{self.n_valid} of {self.n_valid + self.n_masked} ({', '.join(others)})" if others else ""

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, statistics: Mapping[str, Any]) -> SurveyStatistics:
        """Make an instance of what `to_dict` gave, through JSON or not."""
        tuples = {name: tuple(statistics.get(name, ())) for name in ("shape", "warnings", "origins", "files")}
        found = statistics.get("sphere")
        sphere = Sphere(found["nside"], tuple(found["covered"])) if found else None
        return cls(**{**statistics, **tuples, "sphere": sphere})


@dataclass
class Census:
    """Sums over strips, taken in order from the first row to the last.

    No result depends on the height of the strips: sums are of rows, then exactly of the rows' sums; each plane has its
    own digest.
    """

    n_valid: int = 0
    n_masked: int = 0
    n_off_sky: int = 0
    n_counts_off_sky: int = 0
    counts_off_sky: float = 0.0
    n_nan: int = 0
    largest: dict[str, float] = field(default_factory=lambda: {"counts": 0.0, "background": 0.0})
    n_fractional: int = 0
    n_without_background: int = 0
    counts_without_background: float = 0.0
    n_bad_exposure: int = 0
    n_without_exposure: int = 0
    counts_without_exposure: float = 0.0
    n_with_counts: int = 0
    n_unlike_background: int = 0
    n_negative: int = 0
    lowest: tuple[float, int, int] = (0.0, 0, 0)  # As of a strip.
    scatter: float = 0.0
    expected_scatter: float = 0.0
    # Impossible values by plane and kind: how many, and the text of the first.
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    first_faults: dict[tuple[str, str], str] = field(default_factory=dict)
    row_sums: dict[str, list[float]] = field(default_factory=lambda: {"counts": [], "background": []})
    n_masked_with_counts: int = 0
    nside: int = 0  # Of a map of the sphere.
    covered: set[int] = field(default_factory=set)  # Cells of it, as of `Sphere`.
    hashes: dict[str, Any] = field(default_factory=dict)

    def add(self, strip: Strip) -> None:
        """Measure the next rows."""
        valid = strip.planes["mask"].astype(bool)
        self.n_valid += int(np.count_nonzero(valid))
        if self.nside:
            self.covered |= covered_by(valid, strip.y0, self.nside)
        self.n_masked += int(np.count_nonzero(~valid))
        self.n_off_sky += strip.n_off_sky
        self.n_counts_off_sky += strip.counts_off_sky.size
        self.counts_off_sky += float(strip.counts_off_sky.sum())
        self.n_nan += strip.n_nan
        self.n_bad_exposure += strip.n_bad_exposure
        self.n_without_exposure += strip.counts_unexposed.size
        self.counts_without_exposure += float(strip.counts_unexposed.sum())
        self.n_negative += strip.n_negative
        self.lowest = min(self.lowest, strip.lowest)
        self.n_masked_with_counts += strip.n_masked_with_counts
        values = {name: plane.astype("<f8") for name, plane in strip.planes.items()}
        for name, plane in values.items():
            self.hashes.setdefault(name, hashlib.sha256()).update(np.ascontiguousarray(plane).data)
        if not valid.any():
            # Counts and background are 0.
            for rows in self.row_sums.values():
                rows.extend([0.0] * len(valid))
            return
        for name in self.row_sums:
            plane = values[name]
            bad = {"negative": plane < 0, "infinite": np.isinf(plane), "absurdly large": plane > LARGEST}
            for kind, where in bad.items():
                if n := int(np.count_nonzero(where)):
                    y, x = np.unravel_index(np.argmax(where), where.shape)
                    self.faults[name, kind] += n
                    self.first_faults.setdefault((name, kind), f"{plane[y, x]:g} at x = {x}, y = {y + strip.y0}")
        if self.faults:
            return  # refused in the end; sums no longer matter
        for name, rows in self.row_sums.items():
            rows.extend(values[name].sum(axis=1).tolist())
            self.largest[name] = max(self.largest[name], float(values[name].max()))
        self._judge_counts(values["counts"], values["background"], valid)

    def _judge_counts(self, counts: Floats, background: Floats, valid: Bools) -> None:
        self.n_fractional += int(np.count_nonzero(counts != np.rint(counts)))
        self.n_with_counts += int(np.count_nonzero(counts))
        self.n_unlike_background += int(np.count_nonzero(counts != background))
        unexplained = (counts > 0) & (background < _NO_BACKGROUND)
        self.n_without_background += int(np.count_nonzero(unexplained))
        self.counts_without_background += float(counts[unexplained].sum())
        # Half the squared difference of neighbours averages to the mean where counts are Poisson's, with any large
        # structure; smoothing leaves less.
        left, right = counts[:, :-1], counts[:, 1:]
        pairs = valid[:, :-1] & valid[:, 1:]
        self.scatter += float(np.square(right - left)[pairs].sum()) / 2
        self.expected_scatter += float((right + left)[pairs].sum()) / 2

    def check(self, where: Mapping[str, str], dtype: np.dtype[Any], mask: MaskChoice) -> None:
        """Refuse what cannot be analysed.

        Parameters
        ----------
        where : mapping
            HDU and file of each plane, for messages.
        dtype : dtype
            Type of the background in its file.
        mask : MaskChoice
            The mask that was taken.

        Raises
        ------
        SurveyError
            If a used pixel is negative, infinite or absurdly large, or no pixel is used.
        """
        if self.faults:
            (plane, kind), n = next(iter(self.faults.items()))
            raise SurveyError(
                f"{where[plane]} has {counted(n, f'{kind} value')}, the first one {self.first_faults[plane, kind]} "
                f"(from 0): correct or mask them{NO_EXCESS if (plane, kind) == ('counts', 'negative') else ''}"
            )
        lowest, y, x = self.lowest
        if lowest < -rounding_of(dtype, self.largest["background"]):
            raise SurveyError(
                f"{where['background']} has {counted(self.n_negative, 'negative value')}, the lowest one {lowest:g} at "
                f"x = {x}, y = {y} (from 0): correct or mask them"
            )
        if self.n_valid == 0:
            excluded = self.n_masked - self.n_off_sky - self.n_nan
            raise SurveyError(
                f"{where['counts']}: no pixel can be used: {self.n_off_sky} lie off the sky, {self.n_nan} are NaN in "
                f"counts or background, {excluded} masked by MASK{f': {mask.doubt}' * bool(excluded)}"
            )

    def warnings(self, mask: MaskChoice) -> tuple[str, ...]:
        """What may be wrong with the data without making them useless; `mask` is the mask that was taken."""
        scatter = self.scatter / self.expected_scatter if self.expected_scatter >= _LEAST_COUNTS else 1
        counts, background = self.total("counts"), self.total("background")
        found = {
            f"counts are 0 on all {self.n_valid} pixels that are used, so nothing can be found: check that this is the "
            "counts map, and that its mask is right": not counts and not self._most_masked(),
            f"{counted(self.counts_off_sky, 'count')} on {counted(self.n_counts_off_sky, 'pixel')} without a sky "
            "position in this projection: not used": self.n_counts_off_sky,
            f"{self._most_masked()} are masked or NaN: {mask.doubt}": self._most_masked(),
            NEGATIVE_BY_ROUNDING % (self.n_negative, self.lowest[0]): self.n_negative,
            f"counts are not whole numbers at {counted(self.n_fractional, 'pixel')}: significances assume Poisson "
            "counts": self.n_fractional,
            f"counts look smoothed: the variance between neighbouring pixels is {scatter:.2g} of Poisson's, so "
            "significances will be wrong": scatter < _SMOOTH_SCATTER,
            "background equals the counts at every pixel, so nothing can be found: give the counts that are expected "
            "without sources": counts and not self.n_unlike_background,
            "background is 0 at every pixel, so every count counts as a source: give the counts that are expected "
            "without sources": counts and not background,
            f"background is 0, or below {_NO_BACKGROUND:g}, at {counted(self.n_without_background, 'pixel')} with "
            f"{counted(self.counts_without_background, 'count')}, each of which counts as a source: give what is "
            "expected there, or mask them": self.n_without_background and self.largest["background"] > _NO_BACKGROUND,
            f"background and counts differ by orders of magnitude: {background:.3g} are expected, and there are "
            f"{counts:.10g}, on {self.n_with_counts} pixels: give the background in expected counts a pixel, neither a "
            "rate nor a density": counts and background and self._implausible(counts, background),
            f"exposure is NaN, infinite or negative at {counted(self.n_bad_exposure, 'used pixel')}: taken as 0 "
            "there": self.n_bad_exposure,
            f"exposure is 0 at {counted(self.n_without_exposure, 'pixel')} with "
            f"{counted(self.counts_without_exposure, 'count')}, where none can be: correct it, or mask "
            "them": self.n_without_exposure,
        }
        return tuple(text for text, applies in found.items() if applies)

    def _implausible(self, counts: float, background: float) -> bool:
        # Sources may hold any number of counts, but on few pixels.
        return background > _ORDERS * counts or self.n_with_counts > _ORDERS * background

    def _most_masked(self) -> str:
        """Name what is masked, if it is most of the pixels with counts or of all; else empty."""
        # Not most of the counts: a hot pixel may hold these.
        lost, kept = self.n_masked_with_counts, self.n_with_counts
        if lost > kept:
            return f"{lost / (lost + kept):.0%} of the pixels with counts"
        n_on_sky = self.n_valid + self.n_masked - self.n_off_sky
        if self.n_valid < _LEAST_SHARE * n_on_sky:
            return f"{1 - self.n_valid / n_on_sky:.0%} of the pixels"
        return ""

    def total(self, name: str) -> float:
        """Sum of a plane over the valid pixels."""
        return math.fsum(self.row_sums[name])

    @property
    def planes(self) -> dict[str, str]:
        """SHA-256 of the values of each plane."""
        return {name: value.hexdigest() for name, value in sorted(self.hashes.items())}


def digest_survey(shape: tuple[int, int], header_text: str, planes: Mapping[str, str]) -> str:
    """SHA-256 of a survey.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    header_text : str
        The WCS cards, and the exposure's unit.
    planes : mapping of str
        SHA-256 of each plane.
    """
    content = {"shape": shape, "wcs": header_text, "planes": planes}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
