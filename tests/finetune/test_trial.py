"""What belongs to a trial, and what it goes on with."""

import pytest

from roberta_jax.checkpoint.store import COMMIT_MARKER
from roberta_jax.errors import UserError
from roberta_jax.finetune import trial as trial_module
from roberta_jax.finetune.finetune import finetune
from roberta_jax.finetune.task_run import Trial
from tests.finetune.tasks_on_disk import finetune_config, write_sst2

TRIAL = Trial(1e-5, 16, (3, 4))


def test_names_tell_trials_apart():
    assert TRIAL.name == "rate1e-05-batch16-seeds3-4"
    assert Trial(3e-5, 32, (7,)).name == "rate3e-05-batch32-seed7"


class Stopped(Exception):
    """As if it were killed."""


def test_before_the_first_checkpoint_other_settings_are_fine(complete, tmp_path, monkeypatch):
    def run_loop(*arguments, **options):
        raise Stopped

    monkeypatch.setattr(trial_module, "run_loop", run_loop)
    data = write_sst2(tmp_path / "glue")
    for changes in ({}, {"fit__epochs": 3.0}):
        with pytest.raises(Stopped):
            finetune(finetune_config(data, **changes), tmp_path / "run", init_from=str(complete))
    (folder,) = (tmp_path / "run" / "sst2" / "trials").iterdir()
    checkpoint = folder / "checkpoints" / "6"
    checkpoint.mkdir(parents=True)
    (checkpoint / COMMIT_MARKER).touch()
    with pytest.raises(UserError, match=r"fit\.epochs \(3\.0, now 2\.0\)"):
        finetune(finetune_config(data), tmp_path / "run", init_from=str(complete))
