"""On a disk that fails by a seed a run ends with its bits, or names the file; then the same command ends it."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from cases import EVERY
from seeded import PowerLoss, SeededDisk, draw_faults, real_name
from skies import poisson_sky, write_survey
from work import digests

from cwt_dask.cli.commands import main
from cwt_dask.report import report_is_current
from cwt_dask.results import SurveyRun
from cwt_dask.storage.maps import published_digests
from cwt_dask.survey import Survey

# When the power goes, coroutines of Zarr's are left where they are.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SEEDS = range(int(os.environ.get("FIRST_SEED", "0")), int(os.environ.get("END_OF_SEEDS", "300" if EVERY else "72")))
OPTIONS = ("--workers=0", "--quiet", "--fits=no", "--no-report", "--n-scale=1", "--min-scale=1", "--step-scale=1.5")
TILES = ("--tile-size=24", "--margin=4")
KINDS = {
    "in one go": ("--stopping=fixed", "--max-iter=2"),
    "in blocks": ("--tol=3e-2", "--max-iter=3"),
    "with islands": ("--significance-island-threshold=5", "--max-iter=2"),
}
# More often than there are faults, and power comes back, no command need be given.
MOST_TRIES = 6


class Watched(SeededDisk):
    """One of which there are copies as of some moments, as a driver leaves it that is killed there."""

    MOMENTS = (250, 450)

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.copies = []

    def _operation(self, kind, path):
        if self.n in self.MOMENTS:
            copy = self.root.with_name(f"{self.root.name}-{self.n}")
            self.copies.append((shutil.copytree(self.root, copy), self.n))
        return super()._operation(kind, path)


class Place:
    """A survey, run as one of `KINDS` on a disk that does not fail: how it begins, or goes on, and how it ends."""

    def __init__(self, folder, kind, *, ingested):
        self.folder, self.kind = folder, kind
        write_survey(folder / "survey.fits", *poisson_sky((24, 48), seed=3))
        if ingested:
            assert main(["ingest", str(folder / "survey.fits"), str(folder / "survey.zarr")]) == 0
            (folder / "survey.fits").unlink()
        self.survey = next(folder.glob("survey.*")).name
        disk = Watched(shutil.copytree(folder, folder.with_name(f"{folder.name}-sound")), 0)
        with disk.mounted():
            assert main(self.command(disk.root)) == 0
        self.expected = result(disk.root / "run")
        self.sound = disk.root
        self.begun = [(folder, disk.n), *((copy, disk.n - at) for copy, at in disk.copies)]

    def command(self, root):
        return ["run", str(root / self.survey), str(root / "run"), *OPTIONS, *TILES, *KINDS[self.kind]]


def result(run_dir):
    """What tiles have published, as it was recorded and as it is, and the catalogue."""
    run = SurveyRun.open(run_dir)
    recorded, grid = digests(run), run.stored.plan.grid
    assert {tile: published_digests(run.files, grid, tile) for tile in recorded} == recorded
    return recorded, run.certificate["digest_maps"], run.files.catalogue.read_bytes()


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return [
        Place(tmp_path_factory.mktemp("place"), kind, ingested=ingested) for kind in KINDS for ingested in (False, True)
    ]


def names_one(said, met):
    """Whether a message names a file that a fault has met."""
    paths = [Path(real_name(path)) for _, _, path in met]
    return any(
        str(path) in said
        or f"{path.parent} is not a run directory: it has no readable {path.name}" in said
        # Where nothing can be written at all it is the directory that is to blame.
        or f"cannot write to {path.parent} (" in said
        for path in paths
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_ends_with_its_bits_or_names_the_file(places, tmp_path, capsys, seed):
    place = places[seed % len(places)]
    begun, n_operations = place.begun[seed // len(places) % len(place.begun)]
    disk = SeededDisk(shutil.copytree(begun, tmp_path / "disk"), seed, draw_faults(seed, n_operations), boots=1)
    with disk.mounted():
        for _ in range(MOST_TRIES):
            before, status = len(disk.met), None
            with suppress(PowerLoss):
                status = main(place.command(disk.root))
            said = real_name(capsys.readouterr().err)
            disk.end_command()
            if status == 0:
                break
            assert status is None or names_one(said, disk.met[before:]), f"{disk.met}: {said}"
        assert status == 0, f"{disk.met}: {said}"
    assert result(disk.root / "run") == place.expected, disk.met
    assert not list(disk.root.rglob(".*")), disk.met


# What other commands are given, besides a finished run.
OTHERS = {
    "ingest": ("{}/survey.fits", "{}/new.zarr"),
    "report": ("{}/run",),
    "match": ("{}/run", "{}/known.ecsv", "--radius=1"),
    "reprocess": ("{}/survey.fits", "{}/run", "{}/new", "--workers=0", "--quiet", "--no-report", "--fits=no"),
    "verify": ("{}/run",),
    "run": ("{}/survey.fits", "{}/run", "--overwrite", *OPTIONS, *TILES, *KINDS["in one go"]),
}


@pytest.mark.parametrize("seed", SEEDS[::36])
@pytest.mark.parametrize("command", OTHERS)
def test_other_commands_end_well_or_name_the_file(places, tmp_path, capsys, command, seed):
    root = shutil.copytree(places[0].sound, tmp_path / "disk")
    shutil.copy(root / "run/catalogue.ecsv", root / "known.ecsv")
    before = result(root / "run")
    disk = SeededDisk(root, seed, draw_faults(f"{command} {seed}", 100 if command != "run" else 500), boots=1)
    with disk.mounted():
        for _ in range(MOST_TRIES):
            met, status = len(disk.met), None
            with suppress(PowerLoss):
                status = main([command, *(word.format(root) for word in OTHERS[command])])
            said = real_name("".join(capsys.readouterr()))
            disk.end_command()
            # The power may have gone after a store had its name.
            if status == 0 or (status == 2 and "new.zarr exists: " in said):
                break
            # What verify cannot read is a tile's part of an array: it says of which.
            arrays = [str(path.parent) in said for *_, path in disk.met[met:]] if command == "verify" else []
            assert status is None or any(arrays) or names_one(said, disk.met[met:]), f"{disk.met}: {said}"
        assert status in (0, 2), f"{disk.met}: {said}"
    if command == "match":
        run, sound = SurveyRun.open(root / "run"), SurveyRun.open(places[0].sound / "run").catalogue
        found = run.catalogue
        assert list(found["assoc_name"]) == list(sound["name"])
        assert [list(map(str, row)) for row in found[sound.colnames]] == [list(map(str, row)) for row in sound]
        assert run.certificate["digest_maps"] == before[1]
    else:
        assert result(root / "run") == before
    if command == "reprocess":
        # All is reused: the records name the run that they come from.
        assert SurveyRun.open(root / "new").certificate["digest_maps"] == before[1]
    if command == "ingest":
        Survey.open(root / "new.zarr").refuse_damaged_chunks()
    if command == "report":
        assert report_is_current(SurveyRun.open(root / "run"))
    assert not list(root.rglob(".*")), disk.met
