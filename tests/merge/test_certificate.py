from dataclasses import replace

import pytest
from skies import poisson_sky, write_survey

from cwt_dask import run_survey
from cwt_dask.merge.certificate import SEAL, certify, digest_maps, fault_of
from cwt_dask.merge.islands import OpenIsland
from cwt_dask.merge.seams import Seam, compare_seams
from cwt_dask.storage.ledger import read_records
from cwt_dask.storage.schema import maps_from
from cwt_dask.storage.sealed import sealed

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
    found = {"plan": plan, "statistics": small_run.survey.statistics, "seams": seams, "unsettled": []}
    return found | {"records": read_records(small_run.files.ledger)}


def with_settings(plan, **settings):
    return {"plan": replace(plan, settings=replace(plan.settings, **settings))}


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
    assert written.keys() == {SEAL, "run_id", "digest_catalogue", "digest_products", *certificate}
    differing = {name for name in certificate if written[name] != certificate[name]}
    assert differing <= {"started", "finished", "seconds", "peak_memory", "expected_false"}
    assert len(written["expected_false"]["rows"]) == len(written["expected_false"]["score"])
    assert fault_of(written, small_run.stored.run_id, evidence["plan"]) == ""
    assert fault_of(written, "0" * 32, evidence["plan"]) == "it is of another run"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"coverage": ...}, "it lacks coverage"),
        ({"seconds": {"run": 1.0}}, "it lacks seconds.tiles"),
        ({"peak_memory": 5, "wrap": ...}, "it lacks wrap, peak_memory.driver, peak_memory.worker"),
    ],
)
def test_fields_that_a_sealed_certificate_lacks_are_named(small_run, change, fault):
    content = {name: value for name, value in (small_run.certificate | change).items() if value is not ...}
    assert fault_of(sealed(content, SEAL), small_run.stored.run_id, small_run.stored.plan) == fault


def test_every_broken_condition_alone_makes_the_tiling_inexact(evidence):
    plan, records, seams = (evidence[name] for name in ("plan", "records", "seams"))
    n_iter, largest = records[0].n_iter, max(records[tile].model_max for tile in (seams[3].tile, seams[3].neighbour))
    early = {n: replace(r, n_iter=n_iter - 1, moments=r.moments[:-1]) for n, r in records.items()}
    late = {n: replace(r, n_iter=n_iter + 1, moments=[*r.moments, r.moments[-1]]) for n, r in records.items()}

    def with_seam(**changes):
        return {"seams": [*seams[:3], seams[3]._replace(**changes), *seams[4:]]}

    island = OpenIsland(2, 0, 5, 60, 7, 4.5)
    stops, differs = "tiles did not stop where the whole map stops", "of their maximum at a seam"
    for change, expected in (
        ({"records": {tile: records[tile] for tile in (0, 1, 3)}}, "3 of 4 tiles are done"),
        ({"plan": replace(plan, contract_margin=plan.grid.margin + 1)}, "pixels is below the contract's"),
        ({"records": records | {1: late[1]}}, stops),
        ({"records": early}, stops),
        ({"records": late}, stops),
        (with_settings(plan, stopping="tile") | {"records": records | {0: early[0], 3: early[3]}}, stops),
        (with_settings(plan, stopping="fixed"), stops),
        ({"unsettled": [island]}, "1 island left open"),
        (with_seam(model_difference=1.01e-9 * largest), differs),
        (with_seam(model_difference=float("nan")), differs),
        (with_seam(support_flips=1), "the support differs in 1 pixel at seams"),
    ):
        certificate = certify(**evidence | change)
        assert certificate["tiling_exact"] is False
        assert certificate["open_islands_named"] == [island._asdict() for island in change.get("unsettled", ())]
        assert any(expected in reason for reason in certificate["not_exact_because"])
    unseen = {tile: replace(record, undefined=5, near_threshold=7) for tile, record in records.items()}
    for change in (
        with_seam(model_difference=0.99e-9 * largest),
        with_settings(plan, stopping="fixed", max_iter=n_iter),
        {"records": unseen},
    ):
        assert certify(**evidence | change)["not_exact_because"] == []


def test_seams_of_tiles_without_a_record_do_not_count(evidence):
    del evidence["records"][2]
    evidence["seams"].append(Seam(0, 2, "north", 4, 1.0, 9))
    certificate = certify(**evidence)
    assert certificate["seam_support_flips"] == 0
    assert certificate["seam_model_error"] < 1e-9
    assert certificate["coverage"] == pytest.approx(1 - 20 * 50 / 6300)
    assert certificate["digest_maps"] is None


def test_no_records_at_all_are_no_result(evidence):
    certificate = certify(**evidence | {"records": {}})
    assert certificate["coverage"] == certificate["n_iter"] == 0
    assert certificate["converged"] is certificate["tiling_exact"] is False


def test_converged_is_by_the_rule_that_stopping_names(evidence):
    plan, records = evidence["plan"], evidence["records"]
    # It ran out of iterations, which is no fault of the tiles.
    stopped_short = certify(**evidence | with_settings(plan, tol=1e-12, max_iter=records[0].n_iter))
    assert (stopped_short["converged"], stopped_short["tiling_exact"]) == (False, True)
    assert certify(**evidence | with_settings(plan, stopping="fixed"))["converged"] is None
    by_tile = evidence | with_settings(plan, stopping="tile")
    assert certify(**by_tile)["converged"] is False
    all_did = {tile: replace(record, converged=True) for tile, record in records.items()}
    assert certify(**by_tile | {"records": all_did})["converged"] is True


def test_the_digest_of_the_maps_covers_every_chunk_in_its_place_and_nothing_else(evidence):
    records = evidence["records"]
    before = digest_maps(records)

    def with_digests(tile, **digests):
        return records | {tile: replace(records[tile], chunk_digests=records[tile].chunk_digests | digests)}

    for tile, record in records.items():
        for name in (spec.name for spec in maps_from("tile") if spec.digested):
            changed = f"{int(record.chunk_digests[name], 16) ^ 1:064x}"
            assert digest_maps(with_digests(tile, **{name: changed})) != before
    digests = records[0].chunk_digests
    assert digest_maps(with_digests(0, model=digests["approx"], approx=digests["model"])) != before
    assert digest_maps(records | {0: records[1], 1: records[0]}) != before
    elsewhere = {n: replace(r, seconds=1e9, host="elsewhere") for n, r in with_digests(2, trust="00").items()}
    assert digest_maps(dict(reversed(elsewhere.items()))) == before
    # A damaged record.
    assert digest_maps({0: replace(records[0], chunk_digests={"model": "00"})}) is None
