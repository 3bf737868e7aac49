"""Which other runs read a run's survey."""

import pytest

from cwt_dask.errors import InputError
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import begin_ledger
from cwt_dask.storage.marks import note_user, users_of


def test_a_damaged_note_of_a_user_is_not_taken_for_none(tmp_path):
    owner, user = RunDir(tmp_path / "owner"), RunDir(tmp_path / "user")
    for run in (owner, user):
        run.path.mkdir()
        begin_ledger(run)
    run_id = user.run_id.read_text()
    note_user(user, owner.survey, run_id)
    assert users_of(owner) == [user.path]
    note = owner.users / f"{run_id}.json"
    note.write_text(note.read_text().replace("user", "usar"))
    with pytest.raises(InputError, match=rf"^{note} is damaged, .* remove it if there is none, or choose another"):
        users_of(owner)
