"""What belongs to a trial, and what it goes on with."""

import types

import jax
import numpy as np
import pytest

from roberta_jax import config as c
from roberta_jax.checkpoint.store import COMMIT_MARKER
from roberta_jax.errors import UserError
from roberta_jax.finetune import trial as trial_module
from roberta_jax.finetune.finetune import finetune
from roberta_jax.finetune.model_folder import read_task_model
from roberta_jax.finetune.task_run import Trial
from roberta_jax.parallel.mesh import make_mesh
from tests.finetune import models
from tests.finetune.tasks_on_disk import finetune_config, write_sst2
from tests.tasks.runs import make_point

TRIAL = Trial(1e-5, 16, (3, 4))


def test_names_tell_trials_apart():
    assert TRIAL.name == "rate1e-05-batch16-seeds3-4"
    assert Trial(3e-5, 32, (7,)).name == "rate3e-05-batch32-seed7"


@pytest.mark.parametrize(("peaks", "winner"), [((0.5, 0.9, 0.4), 1), ((0.9, 0.9, 0.95), 2)])
def test_the_model_of_a_trial_is_that_of_its_best_seed(tmp_path, peaks, winner):
    model = models.make_model("regression")
    seeds = (7, 8, 9)
    run = types.SimpleNamespace(
        task=model.task,
        config=finetune_config("table"),
        start=types.SimpleNamespace(
            config=model.encoder,
            tokenizer=model.tokenizer,
            family=model.family,
            description="a run",
        ),
        train=types.SimpleNamespace(rows=[0] * 48),
        limits=model.limits,
        columns={},
        content={},
    )
    curves = [
        [make_point(model.task, 10, 0.1), make_point(model.task, 20, peak, epoch=seed)]
        for seed, peak in zip(seeds, peaks, strict=True)
    ]
    best = [models.make_model("regression", seed).params for seed in seeds]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *best)
    (tmp_path / "checkpoints").mkdir()
    outcome = trial_module._conclude(
        run, Trial(1e-5, 16, seeds), tmp_path, curves, stacked, predict=None, notes=()
    )
    assert [seed.scores["dev"]["pearson"] for seed in outcome.seeds] == list(peaks)
    kept = read_task_model(outcome.folder, make_mesh(c.MeshConfig()))
    assert models.same_params(kept.params, best[winner])
    assert kept.scores["dev"]["pearson"] == max(peaks)
    assert kept.training["seed"] == kept.training["best_epoch"] == seeds[winner]


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
