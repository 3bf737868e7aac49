"""What a second call on the same run directory does."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from reporters import DiesAt, InterruptedRunError, Messages
from skies import poisson_sky, write_survey
from work import change_run, flip, starts

from cwt_dask import CWTKernels, SurveyRun, run_survey
from cwt_dask.cli.commands import main
from cwt_dask.config.settings import ALGORITHM_VERSION
from cwt_dask.errors import InputError, InterruptedRun, RunError, SettingsError
from cwt_dask.inspection.verify import verify_run
from cwt_dask.merge.certificate import SEAL
from cwt_dask.storage import drafts
from cwt_dask.storage.block_records import read_block_records
from cwt_dask.storage.directory import hold
from cwt_dask.storage.drafts import draft_of
from cwt_dask.storage.driver import Driver, read_driver
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import begin_ledger, read_records, read_run_id, write_record
from cwt_dask.storage.paths import remove_folder
from cwt_dask.storage.sealed import sealed
from cwt_dask.survey import SurveySource, ingest
from cwt_dask.tiles.task import run_tile

KERNELS = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5}
OPTIONS = KERNELS | {"workers": 0, "fits": "no", "tile_size": 75, "max_iter": 3}


@pytest.fixture(scope="module")
def store(survey):
    """A survey's store; not to be changed."""
    return ingest(SurveySource.of(survey), survey.with_suffix(".zarr")).path


@pytest.fixture(scope="module")
def finished(store):
    """A finished run with all its FITS files; to be copied, not changed."""
    return run_survey(store, store.with_name("run"), **OPTIONS | {"fits": "yes"})


@pytest.fixture
def run(finished, tmp_path):
    return SurveyRun.open(shutil.copytree(finished.files.path, tmp_path / "run"))


def again(run, survey, **options):
    words = Messages()
    return run_survey(survey, run.files.path, progress=words, **OPTIONS | options), words.text


def test_a_finished_run_is_checked_and_left_alone(run, store):
    before = starts(run)
    _, said = again(run, store)
    assert "all 4 tiles were done; checked, nothing to do" in said
    assert starts(run) == before


@pytest.mark.parametrize(
    "lost", ["certificate.json", "catalogue.ecsv", "ledger/tile-0000002.json", "seams.zarr/own_model/c/2"]
)
def test_what_is_lost_is_made_again_and_only_that(run, store, lost):
    certificate, before = run.certificate, starts(run)
    path = run.files.path / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    redone, said = again(run, store)
    assert "nothing to do" not in said
    assert path.exists()
    assert redone.certificate["digest_maps"] == certificate["digest_maps"]
    assert redone.certificate["tiling_exact"]
    changed = {tile for tile, start in starts(run).items() if start != before[tile]}
    assert changed == ({2} if "2" in lost else set())
    assert not any(check.fault for check in verify_run(redone))


def test_while_a_tile_is_made_again_nothing_is_certified(run, store):
    digest = run.certificate["digest_maps"]
    run.files.record(2).unlink()
    with pytest.raises(InterruptedRunError):
        run_survey(store, run.files.path, progress=DiesAt("tiles", 0), **OPTIONS)
    assert not run.files.certificate.exists()
    # How it is carried out may change; and the number of workers, as in tests/runtime/test_signals.py.
    redone, _ = again(run, store, threads=2, memory_limit="1GiB")
    assert redone.certificate["tiling_exact"]
    assert redone.certificate["digest_maps"] == digest


def test_another_number_of_false_sources_splits_the_catalogue_again_and_computes_nothing(
    run, store, tmp_path, monkeypatch
):
    asked = run_survey(store, tmp_path / "asked", **OPTIONS, false_sources=30)
    assert len(asked.catalogue) > len(run.catalogue)
    before = starts(run)

    def refuse(*_):
        raise AssertionError

    for name in ("fitting._fit", "sources.candidates_of"):
        monkeypatch.setattr(f"cwt_dask.tiles.{name}", refuse)
    # Killed with the new number written down, and nothing else.
    with pytest.raises(InterruptedRunError):
        run_survey(store, run.files.path, progress=DiesAt("seams", 0), **OPTIONS, false_sources=30)
    shutil.copytree(run.files.path, tmp_path / "killed")
    for path in (run.files.path, tmp_path / "killed"):
        split = run_survey(store, path, **OPTIONS, false_sources=30)
        for name in ("catalogue", "candidates"):
            assert getattr(split.files, name).read_bytes() == getattr(asked.files, name).read_bytes()
        assert (split.certificate["false_sources"], split.stored.plan.settings.false_sources) == (30, 30)
        assert not any(check.fault for check in verify_run(split))
    written = run.files.maps_fits.stat().st_mtime_ns
    assert (
        "the catalogue is split again, as 0.5 false rows are asked for now" in again(run, store, false_sources=0.5)[1]
    )
    assert run.files.maps_fits.stat().st_mtime_ns == written
    assert starts(run) == before


CHANGES = {
    "another value": lambda certificate: certificate | {"coverage": 0.5},
    "no number": lambda certificate: certificate | {"rounding_level": float("nan")},
    "no seal": lambda certificate: {name: value for name, value in certificate.items() if name != SEAL},
    "a field less, sealed again": lambda certificate: sealed({**certificate, "seconds": {"run": 1.0}}, SEAL),
}


@pytest.mark.parametrize(
    "change",
    [pytest.param(CHANGES[name], id=name, marks=[pytest.mark.long] * name.startswith("no ")) for name in CHANGES],
)
def test_a_certificate_that_was_changed_is_made_again(run, store, change):
    path, content, before = run.files.certificate, run.certificate, starts(run)
    path.write_text(json.dumps(change(content)))
    with pytest.raises(
        RunError, match=r"damaged .it (was changed since the run ended|lacks seconds.tiles).: delete it"
    ):
        _ = run.certificate
    assert "the certificate is as the run wrote it" in {check.promise for check in verify_run(run) if check.broken}
    redone, said = again(run, store)
    assert f"{path} is damaged or missing: made again" in said
    assert redone.certificate.keys() == content.keys()
    assert redone.certificate["coverage"] == 1.0
    assert starts(run) == before
    assert "nothing to do" in again(run, store)[1]


def test_a_finished_run_with_left_checkpoints_is_left_alone(run, store):
    run.files.checkpoints.mkdir()
    before = run.files.certificate.read_bytes()
    assert "nothing to do" in again(run, store)[1]
    assert not run.files.checkpoints.exists()
    assert run.files.certificate.read_bytes() == before


def test_a_certificate_that_is_cut_short_is_made_again(run, store):
    path, content = run.files.certificate, run.certificate
    path.write_bytes(path.read_bytes()[:300])
    redone, said = again(run, store)
    assert f"{path} is damaged or missing: made again" in said
    assert redone.certificate["digest_maps"] == content["digest_maps"]


@pytest.mark.parametrize(
    ("name", "damage", "fits"),
    [
        *(("catalogue.ecsv", flip, "no"), ("maps.fits", Path.unlink, "no")),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (
                *(("catalogue.fits", flip, "no"), ("catalogue.fits", Path.unlink, "yes")),
                *(("maps.fits", flip, fits) for fits in ("yes", "no")),
                ("maps.fits", Path.unlink, "yes"),
            )
        ),
    ],
)
def test_products_that_are_not_as_written_are_made_again(run, store, name, damage, fits):
    path = run.files.path / name
    content, before = path.read_bytes(), starts(run)
    damage(path)
    (broken,) = [check for check in verify_run(run) if check.broken]
    assert broken.promise == "catalogue and FITS files are as the run wrote them"
    assert broken.fault == f"{path} {'differs' if damage is flip else 'is missing'}"
    _, said = again(run, store, fits=fits)
    assert f"{path} is damaged or missing: made again" in said
    assert starts(run) == before
    if (name, damage, fits) == ("maps.fits", Path.unlink, "no"):
        # Nobody asks for it any more, until somebody does.
        assert not path.exists()
        again(run, store, fits="yes")
    assert path.read_bytes() == content
    assert not any(check.fault for check in verify_run(run))
    assert "nothing to do" in again(run, store, fits=fits)[1]


def test_a_request_to_stop_in_the_report_is_obeyed(store, tmp_path, monkeypatch):
    monkeypatch.setattr("cwt_dask.run.write_report", Mock(side_effect=InterruptedRun("as you wished")))
    with pytest.raises(InterruptedRun):
        run_survey(store, tmp_path / "run", **OPTIONS)


FILES_OF_PROOF = {
    "ledger/run-id": lambda text: text[::-1],
    "ledger/tile-0000002.json": lambda text: text.replace('"undefined": 0', '"undefined": 7'),
    "run.toml": lambda text: text.replace("contract_margin = ", "contract_margin = 1"),
}


@pytest.mark.parametrize("name", FILES_OF_PROOF)
def test_what_a_run_knows_of_itself_is_mended_from_what_proves_it(run, store, name):
    path, before, digest = run.files.path / name, starts(run), run.certificate["digest_maps"]
    sound = path.read_text()
    path.write_text(FILES_OF_PROOF[name](sound))
    assert path.read_text() != sound
    if name == "run.toml":
        with pytest.raises(InputError, match=r"run\.toml is damaged .it is not as it was written"):
            SurveyRun.open(run.files.path)
        with pytest.raises(InputError, match=r"no record in .*ledger shows that this one was made from this"):
            again(run, store, tol=0.3)
    else:
        assert next(check.promise for check in verify_run(run) if check.broken) == "the ledger is as the run wrote it"
    redone, said = again(run, store)
    assert str(path) in said
    assert redone.certificate["digest_maps"] == digest
    assert {tile for tile, start in starts(run).items() if start != before[tile]} == ({2} if "2" in name else set())
    assert not any(check.fault for check in verify_run(redone))
    if "tile" not in name:
        path.unlink()
        if name == "run.toml":
            with pytest.raises(InputError, match=rf"^{path} is lost: undo that, or give the run's own command again"):
                SurveyRun.open(run.files.path)
        assert str(path) in again(run, store)[1]
        # As it was but for when, and for where the survey lies from here.
        varying = re.compile("^(created|seal|relative) = .*", re.MULTILINE)
        assert varying.sub("", path.read_text()) == varying.sub("", sound)


def test_a_run_of_a_release_without_seals_is_only_looked_at(run, store):
    lines = run.files.settings.read_text().splitlines(keepends=True)
    run.files.settings.write_text("".join(line for line in lines if not line.startswith(("seal = ", "run_id = "))))
    assert not any(check.fault for check in verify_run(SurveyRun.open(run.files.path)))
    with pytest.raises(InputError, match="was begun by an earlier release: choose another directory"):
        again(run, store)


def test_tiles_of_other_versions_are_not_mixed_unasked(run, store):
    for tile in range(3):
        record = read_records(run.files.ledger)[tile]
        write_record(run.files, replace(record, versions=record.versions | {"numpy": "1.0.0"}))
    assert "nothing to do" in again(run, store)[1]
    run.files.record(3).unlink()
    with pytest.raises(InputError, match=r"numpy was 1\.0\.0, is .*: go on under those, or with --allow-versions"):
        again(run, store)
    redone, _ = again(run, store, allow_versions=True)
    assert any("several versions, numpy 1.0.0 and " in text for text in redone.certificate["warnings"])


def test_versions_of_blocks_that_tiles_went_on_from_are_in_the_certificate(store, tmp_path):
    options = OPTIONS | {"significance_island_threshold": 5.0, "max_iter": 6}
    with pytest.raises(InterruptedRunError):
        run_survey(store, tmp_path / "run", progress=DiesAt("tiles, iterations 3", 0), **options)
    files = RunDir(tmp_path / "run")
    (record, *_) = [record for records in read_block_records(files.ledger, 2).values() for record in records]
    write_record(files, replace(record, versions=record.versions | {"numpy": "1.0.0"}))
    with pytest.raises(InputError, match=r"numpy was 1\.0\.0"):
        run_survey(store, files.path, **options)
    done = run_survey(store, files.path, allow_versions=True, **options)
    # The records of tiles have only what their last block was done with.
    assert {record.versions["numpy"] for record in read_records(files.ledger).values()} == {np.__version__}
    expected = f"tiles and merge had several versions, numpy 1.0.0 and {np.__version__}: last bits may differ"
    assert expected in done.certificate["warnings"]
    files.certificate.unlink()
    # Each is written again as the other has it.
    for path in (files.settings, files.versions):
        flip(path)
        assert expected in run_survey(store, files.path, **options).certificate["warnings"]
        assert not any(check.fault for check in verify_run(SurveyRun.open(files.path)))


def test_a_survey_store_that_holds_other_data_now_is_refused(small_survey, tmp_path):
    options = OPTIONS | {"max_iter": 1}
    store = ingest(SurveySource.of(small_survey), tmp_path / "survey.zarr").path
    run_survey(store, tmp_path / "run", **options)
    shutil.rmtree(store)
    ingest(SurveySource.of(write_survey(tmp_path / "other.fits", *poisson_sky((90, 130), seed=4))), store)
    with pytest.raises(SettingsError, match="its survey is another one, or was changed since"):
        run_survey(store, tmp_path / "run", **options)
    # The original file says nothing of what the tiles would read.
    with pytest.raises(InputError, match="survey.zarr is not the survey that .* began with"):
        run_survey(small_survey, tmp_path / "run", **options)


def test_workers_and_dashboard_of_a_users_cluster_are_named(store, tmp_path, client):
    words = Messages()
    run_survey(store, tmp_path / "run", client=client, progress=words, **OPTIONS)
    assert f"2 workers so far, dashboard at {client.dashboard_link}" in words.texts


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kernels": CWTKernels(2, 1.2, 1.5)}, "kernels and min_scale, n_scale, step_scale are both given"),
        ({"mask": "mask.fits", "band": 7}, "is a store, .* leave out mask, band, or ingest again"),
        ({"tilesize": 45}, "unknown option tilesize: did you mean tile_size?"),
    ],
)
def test_options_that_cannot_be_are_refused_and_nothing_is_written(store, tmp_path, options, said):
    with pytest.raises(SettingsError, match=said):
        run_survey(store, tmp_path / "run", **OPTIONS | options)
    assert not list(tmp_path.iterdir())


def test_a_run_of_another_algorithm_version_is_refused_by_name(run, store):
    change_run(run.files.settings, f"algorithm_version = {ALGORITHM_VERSION}", "algorithm_version = 4")
    with pytest.raises(SettingsError, match=rf"algorithm_version was 4, is {ALGORITHM_VERSION} \(another version of"):
        again(run, store)


@pytest.mark.parametrize(
    "name", ["notes.txt", ".git/config", "islands/tile-1.txt", "maps.zarr/model/c/0/note", "checkpoints/block-1/x.npz"]
)
def test_a_file_that_is_no_part_of_a_run_is_neither_overwritten_nor_removed_at_the_end(run, store, name):
    notes = run.files.path / name
    notes.parent.mkdir(parents=True, exist_ok=True)
    notes.write_text("precious")
    with pytest.raises(InputError, match=f"holds {name.partition('/c')[0]}.*, no part of a run, which would be lost"):
        again(run, store, overwrite=True)
    remove_folder(run.files, run.files.path / name.partition("/")[0])
    assert notes.read_text() == "precious"


def test_all_that_a_run_writes_is_its_own_and_a_run_that_is_overwritten_has_its_driver(run, store, monkeypatch):
    """The second driver's note is not taken for that of the first, whose directory it replaces."""
    seen = []

    def look(job, tile):
        seen.append(read_driver(run.files).pid)
        return run_tile(job, tile)

    monkeypatch.setattr("cwt_dask.pipeline.blocks.run_tile", look)
    assert again(run, store, overwrite=True)[0].promises_kept
    assert set(seen) == {os.getpid()}


def test_a_file_that_appears_while_the_new_run_is_made_is_kept(run, store, monkeypatch):
    notes = run.files.path / "notes.txt"
    monkeypatch.setattr("cwt_dask.pipeline.create.begin_ledger", lambda new: (begin_ledger(new), notes.touch())[0])
    with pytest.raises(InputError, match=r"holds notes\.txt, no part of a run"):
        again(run, store, overwrite=True)
    assert notes.exists()
    assert starts(run)


def test_a_link_to_a_directory_elsewhere_is_followed(store, tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "scratch")
    run = run_survey(store, tmp_path / "link", **OPTIONS)
    assert run.files.path == (tmp_path / "scratch").resolve()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "scratch" / "certificate.json").exists()


def test_a_run_that_another_process_carries_out_is_left_alone(run, store):
    """The lock is of the file, not of the process: two of one process exclude each other, too."""
    before = starts(run)
    with hold(run.files):
        for options in ({}, {"overwrite": True}):
            with pytest.raises(InputError, match="in use by process"):
                again(run, store, **options)
    assert starts(run) == before
    assert "nothing to do" in again(run, store)[1]


def test_a_task_of_a_run_that_was_overwritten_is_refused(run, store):
    old = run.stored.plan.job(run.files, read_run_id(run.files), run.survey.path)
    new, _ = again(run, store, overwrite=True)
    before = starts(new)
    with pytest.raises(RunError, match="holds another run by now: this task is of the one before"):
        run_tile(old, 2)
    assert starts(new) == before
    assert not any(check.fault for check in verify_run(new))


def test_what_killed_drivers_left_is_removed(run, store, dead):
    files, other = run.files, run.files.path.with_name("sky.fits")
    # One was killed while it wrote a chunk, others while they made a run, a survey and a file; one lives.
    chunk = dead(files.maps / "model" / "c" / "0" / "1")
    lost = [dead(path) for path in (files.path, files.path.with_name("other"), other)]
    for path in (chunk, lost[2]):
        path.touch()
    for path in lost[:2]:
        path.mkdir()
    alive = RunDir(draft_of(files.path))
    alive.path.mkdir()
    files.driver.write_bytes(replace(Driver.this(), pid=2**22 + 1).content)
    _, said = again(run, store)
    assert "which did not end by itself" in said
    assert [path.exists() for path in (chunk, *lost, alive.path)] == [False, False, False, False, True]


def test_what_a_driver_on_another_machine_left_goes_once_nobody_holds_it(run, store, monkeypatch):
    left = [RunDir(draft_of(run.files.path)) for _ in range(2)]
    for files in left:
        files.path.mkdir()
        files.lock.touch()
    monkeypatch.setattr(drafts, "_here", lambda: ("0" * 6, "1" * 6, "1" * 6))
    with hold(left[1]):
        again(run, store, overwrite=True)
    assert [files.path.exists() for files in left] == [False, True]


def test_a_failed_tile_is_named_by_status_until_it_is_done(store, tmp_path, monkeypatch, capsys):
    def fail(job, tile):
        if tile == 3:
            raise ValueError("no number")
        return run_tile(job, tile)

    with monkeypatch.context() as patched:
        patched.setattr("cwt_dask.pipeline.blocks.run_tile", fail)
        options = OPTIONS | {"stopping": "fixed"}
        with pytest.raises(RunError, match="1 of 4 tiles failed .3.; tile 3: ValueError: no number"):
            run_survey(store, tmp_path / "run", **options)
    assert main(["status", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "3 of 4 tiles done" in said
    assert "tile 3 failed, attempt 1, tiles, 3 iterations: ValueError: no number\nnot finished" in said
    run = run_survey(store, tmp_path / "run", **options)
    assert read_records(run.files.ledger)[3].attempt == 2
    main(["status", str(tmp_path / "run")])
    assert "tile 3 failed" not in capsys.readouterr().out


def test_status_names_the_process_that_holds_a_run(run, capsys):
    run.files.certificate.unlink()
    with hold(run.files):
        main(["status", str(run.files.path)])
    run.files.driver.write_bytes(replace(Driver.this(), pid=2**22 + 1).content)
    main(["status", str(run.files.path)])
    said = capsys.readouterr().out
    assert re.search(rf"in the hands of process {os.getpid()} of .*\n.* no certificate and no report yet\n", said)
    assert f"left unfinished by process {2**22 + 1} of " in said


def test_tiles_that_never_agree_on_the_stop_end_the_run(store, tmp_path, monkeypatch):
    """As unlike processors might: the pooled rule seems to fire elsewhere each time."""

    def elsewhere(records, _tol):
        return 5 - min(record.n_iter for record in records.values())

    monkeypatch.setattr("cwt_dask.pipeline.next_block.stopping_iteration", elsewhere)
    with pytest.raises(RunError, match="do not stop at the same iteration as before"):
        run_survey(store, tmp_path / "run", **OPTIONS | {"max_iter": 4})
