import re
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from dask.utils import format_bytes
from skies import sky_header

from cwt_dask.report import data, sky, text
from cwt_dask.report.pyramid import FLAGS
from cwt_dask.report.table import name_flags, read_sources
from cwt_dask.run import plan_survey
from cwt_dask.storage.ledger import read_records
from cwt_dask.trust import Trust


def test_seams_count_for_both_tiles(finished):
    seams = [data.compare_seams(finished.files.seams, finished.stored.plan.grid, tile) for tile in range(6)]
    seams = [seam for found in seams for seam in found]
    records = read_records(finished.files.ledger)
    tiles = data.summarise_tiles(records, [seams[0]._replace(model_difference=1e30, support_flips=2), *seams[1:]])
    ends = {seams[0].tile, seams[0].neighbour}
    assert {tile.record.tile for tile in tiles if tile.seam_error > 1} == ends
    assert {tile.record.tile for tile in tiles if tile.flips == 2} == ends
    assert data.summarise_tiles(records, [])[0].seam_error is None


def test_what_was_not_promised_is_not_called_harmless_and_a_broken_promise_is_called_one(survey, finished, numbers):
    changed = replace(numbers, certificate=numbers.certificate | {"tiling_exact": False, "not_exact_because": ["so"]})
    unpromised = plan_survey(survey, tile_size=45, margin=0, n_scale=2, min_scale=1.2, step_scale=1.5)
    broken, open_ = (text.conclude(plan, changed) for plan in (finished.stored.plan, unpromised))
    assert (broken.kind, open_.kind, open_.reasons) == ("bad", "open", ["so"])
    assert broken.sentence.startswith("It was promised that the tiles do no harm")
    assert open_.sentence == "It is not shown that the tiles did no harm, and it was not promised."


def whole_sky(projection, middle):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt = [f"GLON-{projection}", f"GLAT-{projection}"], [-1, 1]
    wcs.wcs.crpix = [180.5, middle]
    return wcs


def test_pixels_stretched_on_the_sky_are_warned_of(finished, numbers):
    wcs = whole_sky("CAR", 90.5)
    stretch, share = sky.pixel_stretch(wcs, (180, 360))
    assert stretch > 50
    assert share == pytest.approx(0.5, abs=0.03)
    flagged = {flag: 40 * (flag == Trust.ERROR_UNDEFINED) for flag in FLAGS}
    changed = replace(numbers, stretch=stretch, stretched=share, plate_carree=True, flagged=flagged)
    found = "\n".join(text.warnings(changed, read_sources(finished)))
    assert re.search(r"Pixels are up to .* times as long as wide on .* on \d\d % of the map, beyond 45°", found)
    assert "Blind: at 40 used pixels" in found
    assert text.share(1e-5) == "less than 0.1 %"
    assert text.duration(7300) == "2.03 h"
    assert sky.pixel_stretch(WCS(fits.Header(sky_header((90, 130)))), (90, 130))[1] == 0


def test_pixels_of_unlike_size_are_warned_of(finished, numbers):
    # A Mercator map to 62 deg of latitude, where its scale is 1 / cos(62 deg).
    wcs = whole_sky("MER", 80.5)
    assert sky.pixel_stretch(wcs, (160, 360))[1] == 0
    uneven = sky.pixel_sizes(wcs, (160, 360))
    top = wcs.all_pix2world(180, 159, 0)[1]
    assert uneven == pytest.approx(1 / np.cos(np.radians(top)), rel=0.03)
    assert sky.pixel_sizes(WCS(fits.Header(sky_header((90, 130)))), (90, 130)) < 1.1
    found = text.warnings(replace(numbers, uneven=uneven), read_sources(finished))
    assert any(re.match(r"Pixels are 2\..* in one latitude as in another", warning) for warning in found)
    assert sky.pixel_sizes(whole_sky("TAN", 80.5), (160, 360)) == 1


def test_what_the_plan_has_warned_about_is_not_said_again_in_other_words(finished, numbers):
    warned = numbers.certificate | {"warnings": ["few counts: so few", "something else"]}
    few = replace(numbers, certificate=warned, few_counts=1.0, disc_counts=4.9)
    found = text.warnings(few, read_sources(finished))
    assert found[:2] == ["Few counts: so few.", "Something else."]
    assert not [each for each in found[2:] if "few counts" in each.lower()]
    assert "Few counts per kernel" in "\n".join(text.warnings(replace(few, disc_counts=5.1), read_sources(finished)))


def test_flags_are_named():
    named = {0: "", 1 | 4: "map edge, error undefined", 2 | 4096: "masked neighbour, 4096"}
    assert {flags: name_flags(flags) for flags in named} == named


def test_what_charts_show_is_also_text(page, numbers):
    labels = {attributes.get("id"): attributes.get("aria-label") for _, attributes in page.elements}
    slowest = max(numbers.tiles, key=lambda tile: tile.record.seconds)

    def changed(**values):
        return replace(slowest.record, **values)

    n, tile = len(numbers.tiles), slowest.record.tile
    assert f"tiles: {n}, iterations: 3; the slowest is tile {tile} with " in labels["figure-tiles"]
    assert f"{text.describe_residuals(numbers.residuals)}." in labels["figure-residuals"]
    assert "iterations: 2 to 3;" in text.describe_tiles([replace(slowest, record=changed(n_iter=2)), *numbers.tiles])
    (first, before), (last, after) = data.relative_changes(numbers.variances)
    assert f": {before:.2g} at iteration {first}, {after:.2g} at iteration {last}." in labels["figure-change"]
    assert text.describe_convergence([2.0]) == "no change"
    # 3 pixels below the first edge, 1 from 0 to 5, 3 above.
    residuals = data.Residuals(*map(np.array, ([0.0, 5.0, 8.0], [3.0, 1.0, 1.0, 2.0], [0.0, 5.0, 0.0, 9.0])), 0.25, 1.5)
    expected = "mean 0.25 and width 1.5, of a standard normal distribution 0 and 1; 3 pixels lie above 5"
    assert text.describe_residuals(residuals) == expected
    assert f"{n} of {n} tiles, the slowest first" in page.content
    rows = text.slowest_tiles([*numbers.tiles, replace(slowest, record=changed(tile=99, seconds=1e6), seam_error=None)])
    assert len(rows) == n + 1
    assert rows[0] == ["99", "3", "278 h", format_bytes(slowest.record.peak_memory), "no seam"]
    assert (rows[1][0], rows[1][4]) == (f"{tile}", f"{slowest.seam_error:.1e}")
    assert len(text.slowest_tiles([slowest] * 60)) == 50
