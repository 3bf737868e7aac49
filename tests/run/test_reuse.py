"""The result of reprocessing is that of a run from scratch, for the work of what has changed."""

import pytest
from cases import EVERY
from reporters import Messages
from skies import write_survey
from versions import HERE, N_TILES, SETTINGS, first_version, version
from work import FFTS_OF_A_START, FFTS_OF_A_STEP, FFTS_OF_THE_FIRST, digests

from cwt_dask import run_survey
from cwt_dask.inspection.verify import verify_run
from cwt_dask.reprocess import reprocess
from cwt_dask.storage.ledger import read_records


@pytest.fixture(scope="module")
def sky():
    return first_version()


def test_one_changed_pixel_is_four_tiles_at_most_and_the_result_that_of_a_full_run(sky, tmp_path, ffts):
    old = run_survey(write_survey(tmp_path / "old.fits", *sky), tmp_path / "old", stopping="fixed", **SETTINGS, **HERE)
    ffts.clear()
    survey = version(sky, tmp_path / "new.fits", (201, 299))
    words = Messages()
    new = reprocess(survey, old.files.path, tmp_path / "new", progress=words, **HERE)
    (computed,) = (line for line in words.texts if "are computed" in line)
    n_computed = int(computed.split()[0])
    assert 1 <= n_computed <= 4
    assert f"{N_TILES - n_computed} of {N_TILES} tiles are reused" in words.texts
    assert "the survey has changed in its window" in computed
    # With one scale.
    per_tile = 2 * (FFTS_OF_A_STEP - 2) + FFTS_OF_A_START + FFTS_OF_THE_FIRST // 2
    assert ffts.total() == n_computed * per_tile
    full = run_survey(survey, tmp_path / "full", stopping="fixed", **SETTINGS, **HERE)
    assert digests(new) == digests(full)
    assert new.certificate["digest_maps"] == full.certificate["digest_maps"] != old.certificate["digest_maps"]
    assert new.files.catalogue.read_bytes() == full.files.catalogue.read_bytes()
    assert not [check for check in verify_run(new) if check.fault]
    # One that was lost again is reused again.
    expected = digests(new)
    new.files.record(5).unlink()
    reprocess(survey, old.files.path, tmp_path / "new", progress=words, **HERE)
    assert words.texts.count("1 of 1 tiles are reused") == 1
    assert digests(new) == expected
    taken = {record.taken_from for record in read_records(new.files.ledger).values()}
    assert len(taken) == 2
    assert "" in taken


@pytest.mark.parametrize("tol", [0.5, 5e-3] if EVERY else [5e-3])
def test_where_the_whole_map_stops_is_found_anew(sky, tmp_path, tol):
    """The new version is so bright in one place that the rule fires elsewhere, or not any more."""
    settings = SETTINGS | {"max_iter": 5, "tol": tol, "tile_size": 160}
    counts, background = (plane[:320, :480] for plane in sky)
    changed = counts.copy()
    changed[60:64, 60:64] += 30
    for versions in ((counts, changed), (changed, counts)):
        surveys = [write_survey(tmp_path / f"{n}.fits", plane, background) for n, plane in enumerate(versions)]
        runs = [
            run_survey(path, tmp_path / f"run-{n}-{versions[0] is counts}", **settings, **HERE)
            for n, path in enumerate(surveys)
        ]
        again = reprocess(surveys[1], runs[0].files.path, tmp_path / f"new-{versions[0] is counts}", **HERE)
        assert digests(again) == digests(runs[1])
        assert again.certificate["tiling_exact"]
