"""What belongs to a trial, and what it goes on with."""

import types

import pytest

from roberta_jax.checkpoint.store import COMMIT_MARKER
from roberta_jax.errors import UserError
from roberta_jax.finetune import trial as trial_module
from roberta_jax.finetune.finetune import finetune
from roberta_jax.finetune.trial import Trial
from tests.finetune.tasks_on_disk import finetune_config, write_sst2

TRIAL = Trial(1e-5, 16, (3, 4))


def settings(**changes):
    """Of a trial of a run with these changes."""
    run = types.SimpleNamespace(
        config=finetune_config("glue", **changes),
        start=types.SimpleNamespace(description="runs/small, step 20"),
        train=types.SimpleNamespace(rows=[0] * 48),
    )
    return trial_module._settings(run, TRIAL)


@pytest.mark.parametrize(
    "changes",
    [
        {"fit__learning_rates": "1e-5,2e-5", "fit__batch_sizes": "16,32"},
        {"optimizer__peak_learning_rate": 1.0, "fit__batch_size": 8},
        {"num_seeds": 5, "seed": 4},
        {"fit__log_every_steps": 1, "fit__seeds_at_once": 2},
        {"fit__save_every_steps": 1},
        {"model__rematerialization": "full"},
        {"mesh__data": 4},
    ],
)
def test_what_changes_no_result_may_change(changes):
    assert settings(**changes) == settings()


@pytest.mark.parametrize(
    "changes",
    [
        {"fit__epochs": 3.0},
        {"fit__evaluations_per_epoch": 2},
        {"model__dropout_rate": 0.0},
        {"model__random_weights": True},
        {"optimizer__weight_decay": 0.0},
        {"schedule__warmup": "10%"},
        {"data__max_length": 16},
        {"data__path": "elsewhere"},
        {"data__train_share": 0.5},
    ],
)
def test_what_changes_the_result_may_not(changes):
    assert settings(**changes) != settings()


def test_a_share_belongs_to_the_first_seed_of_the_run():
    assert settings(data__train_share=0.1, seed=3) != settings(data__train_share=0.1, seed=4)


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
