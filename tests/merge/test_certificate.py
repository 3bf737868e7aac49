import copy
from dataclasses import replace

import pytest
from skies import poisson_sky, write_survey

from cwt_dask import run_survey
from cwt_dask.errors import RunError
from cwt_dask.merge.certificate import certify, digest_maps, read_open_islands
from cwt_dask.merge.islands import OpenIsland
from cwt_dask.merge.seams import Seam, compare_seams
from cwt_dask.merge.stopping import stopping_iteration
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import read_records
from cwt_dask.storage.schema import maps_from

OPTIONS = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "fits": "no", "no_report": True, "workers": 0}


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """A run of 2 x 2 tiles that stops by itself."""
    folder = tmp_path_factory.mktemp("certificate")
    survey = write_survey(folder / "survey.fits", *poisson_sky((70, 90), seed=8))
    return run_survey(survey, folder / "run", tile_size=50, tol=1e-3, max_iter=30, **OPTIONS)


@pytest.fixture
def evidence(small_run):
    """Everything a certificate is made from, to be changed."""
    plan = small_run.stored.plan
    seams = [seam for tile in range(4) for seam in compare_seams(small_run.files.seams, plan.grid, tile)]
    return {
        "plan": plan,
        "statistics": small_run.survey.statistics,
        "records": read_records(small_run.files.ledger),
        "seams": seams,
        "unsettled": [],
    }


@pytest.mark.parametrize("content", ["{", "[5]", '[{"iteration": 1}]', "\xff"])
def test_a_damaged_list_of_open_islands_is_named(tmp_path, content):
    files = RunDir(tmp_path)
    files.islands.mkdir()
    files.open_islands(3).write_text(content, encoding="latin-1")
    with pytest.raises(RunError, match=r"open-block-00003\.json is damaged .*: run with --overwrite to start again"):
        read_open_islands(files)


def test_a_record_without_a_digest_gives_no_digest_of_the_maps(evidence):
    with_record(evidence, 0, chunk_digests={"model": "00"})
    assert certify(**evidence)["digest_maps"] is None


def with_settings(evidence, **settings):
    evidence["plan"] = replace(evidence["plan"], settings=replace(evidence["plan"].settings, **settings))


def with_record(evidence, tile, **changes):
    evidence["records"][tile] = replace(evidence["records"][tile], **changes)


def test_a_good_run_is_certified(small_run, evidence):
    certificate = certify(**evidence)
    assert certificate["tiling_exact"] is True
    assert certificate["converged"] is True
    assert certificate["coverage"] == 1.0
    assert 2 < certificate["n_iter"] < 30
    assert 0 <= certificate["seam_model_error"] <= 1e-9
    assert certificate["seam_support_flips"] == certificate["open_islands"] == 0
    assert certificate["margin_effective"] >= certificate["margin"] == certificate["margin_contract"]
    assert certificate["tile_size"] == [50, 50]
    written = small_run.certificate
    assert {name: written[name] for name in certificate} == certificate
    assert written.keys() - certificate.keys() == {
        "digest_catalogue",
        "digest_certificate",
        "digest_products",
        "finished",
        "peak_memory",
        "seconds",
        "started",
    }


def lose_a_tile(evidence):
    del evidence["records"][2]


def narrow_the_margin(evidence):
    evidence["plan"] = replace(evidence["plan"], contract_margin=evidence["plan"].grid.margin + 1)


def stop_one_tile_late(evidence):
    record = evidence["records"][1]
    with_record(evidence, 1, n_iter=record.n_iter + 1)


def stop_all_tiles_early(evidence):
    for tile, record in evidence["records"].items():
        with_record(evidence, tile, n_iter=record.n_iter - 1, moments=record.moments[:-1])


def stop_all_tiles_late(evidence):
    for tile, record in evidence["records"].items():
        with_record(evidence, tile, n_iter=record.n_iter + 1, moments=[*record.moments, record.moments[-1]])


def stop_each_tile_by_itself(evidence):
    with_settings(evidence, stopping="tile")
    for tile in (0, 3):
        with_record(evidence, tile, n_iter=3)


def leave_an_island_open(evidence):
    evidence["unsettled"].append(OpenIsland(2, 0, 5, 60, 7, 4.5))


def differ_in_the_model(evidence):
    seam = evidence["seams"][3]
    largest = max(evidence["records"][tile].model_max for tile in (seam.tile, seam.neighbour))
    evidence["seams"][3] = seam._replace(model_difference=1.01e-9 * largest)


def differ_by_what_is_no_number(evidence):
    evidence["seams"][3] = evidence["seams"][3]._replace(model_difference=float("nan"))


def differ_in_the_support(evidence):
    evidence["seams"][5] = evidence["seams"][5]._replace(support_flips=1)


def run_fixed_to_another_iteration(evidence):
    with_settings(evidence, stopping="fixed")


@pytest.mark.parametrize(
    "break_it",
    [
        lose_a_tile,
        narrow_the_margin,
        stop_one_tile_late,
        stop_all_tiles_early,
        stop_all_tiles_late,
        stop_each_tile_by_itself,
        leave_an_island_open,
        differ_in_the_model,
        differ_by_what_is_no_number,
        differ_in_the_support,
        run_fixed_to_another_iteration,
    ],
    ids=lambda function: function.__name__,
)
def test_every_broken_condition_alone_makes_the_tiling_inexact(evidence, break_it):
    assert certify(**evidence)["not_exact_because"] == []
    break_it(evidence)
    certificate = certify(**evidence)
    assert certificate["tiling_exact"] is False
    assert len(certificate["not_exact_because"]) >= 1


def test_open_islands_are_counted_and_named(evidence):
    leave_an_island_open(evidence)
    certificate = certify(**evidence)
    assert certificate["open_islands"] == 1
    assert certificate["open_islands_named"] == [
        {"iteration": 2, "scale": 0, "y": 5, "x": 60, "n_pixels": 7, "significance": 4.5}
    ]
    assert certificate["not_exact_because"] == ["1 islands were left open"]


def differ_a_little(evidence):
    seam = evidence["seams"][3]
    largest = max(evidence["records"][tile].model_max for tile in (seam.tile, seam.neighbour))
    evidence["seams"][3] = seam._replace(model_difference=0.99e-9 * largest)


def run_fixed_to_this_iteration(evidence):
    with_settings(evidence, stopping="fixed", max_iter=evidence["records"][0].n_iter)


def stay_in_the_dark(evidence):
    for tile in evidence["records"]:
        with_record(evidence, tile, undefined=5, near_threshold=7)


@pytest.mark.parametrize(
    "change_it",
    [differ_a_little, run_fixed_to_this_iteration, stay_in_the_dark],
    ids=lambda function: function.__name__,
)
def test_what_is_no_condition_does_not(evidence, change_it):
    change_it(evidence)
    assert certify(**evidence)["tiling_exact"] is True


def test_seams_of_tiles_without_a_record_do_not_count(evidence):
    lose_a_tile(evidence)
    evidence["seams"].append(Seam(0, 2, "north", 4, 1.0, 9))
    certificate = certify(**evidence)
    assert certificate["seam_support_flips"] == 0
    assert certificate["seam_model_error"] < 1e-9
    assert certificate["coverage"] == pytest.approx(1 - 20 * 50 / 6300)
    assert certificate["digest_maps"] is None


def test_no_records_at_all_are_no_result(evidence):
    evidence["records"].clear()
    certificate = certify(**evidence)
    assert certificate["coverage"] == 0
    assert certificate["n_iter"] == 0
    assert certificate["converged"] is False
    assert certificate["tiling_exact"] is False


def test_converged_is_unknown_under_fixed_stopping(evidence):
    with_settings(evidence, stopping="fixed")
    assert certify(**evidence)["converged"] is None


def test_converged_under_global_stopping_is_the_pooled_rule(evidence):
    assert certify(**evidence)["converged"] is True
    with_settings(evidence, tol=1e-12, max_iter=evidence["records"][0].n_iter)
    certificate = certify(**evidence)
    assert stopping_iteration(evidence["records"], 1e-12) is None
    assert certificate["converged"] is False
    # It ran out of iterations, which is no fault of the tiles.
    assert certificate["tiling_exact"] is True


def test_converged_under_tile_stopping_is_that_all_tiles_did(evidence):
    with_settings(evidence, stopping="tile")
    assert certify(**evidence)["converged"] is False
    for tile in evidence["records"]:
        with_record(evidence, tile, converged=True)
    assert certify(**evidence)["converged"] is True


@pytest.mark.parametrize("name", [spec.name for spec in maps_from("tile") if spec.digested])
@pytest.mark.parametrize("tile", range(4))
def test_the_digest_of_the_maps_covers_every_chunk(evidence, name, tile):
    records = evidence["records"]
    before = digest_maps(records)
    digests = copy.deepcopy(records[tile].chunk_digests)
    digests[name] = f"{int(digests[name], 16) ^ 1:064x}"
    with_record(evidence, tile, chunk_digests=digests)
    assert digest_maps(records) != before


def test_the_digest_of_the_maps_depends_on_nothing_else(evidence):
    records = evidence["records"]
    before = digest_maps(records)
    for tile in records:
        digests = records[tile].chunk_digests | {"trust": "00"}
        with_record(evidence, tile, chunk_digests=digests, seconds=1e9, host="elsewhere")
    assert digest_maps(dict(reversed(records.items()))) == before


def test_the_digest_of_the_maps_tells_tiles_and_maps_apart(evidence):
    records = evidence["records"]
    before = digest_maps(records)
    swapped = records | {0: records[1], 1: records[0]}
    assert digest_maps(swapped) != before
    digests = records[0].chunk_digests
    with_record(evidence, 0, chunk_digests=digests | {"model": digests["approx"], "approx": digests["model"]})
    assert digest_maps(records) != before
