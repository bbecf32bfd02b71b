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
from roberta_jax.finetune.objective import TaskObjective
from roberta_jax.finetune.trial import Trial
from roberta_jax.parallel.mesh import make_mesh
from tests.finetune import models
from tests.finetune.tasks_on_disk import finetune_config, write_sst2
from tests.tasks.runs import make_point

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
    )
    curves = [
        [make_point(model.task, 10, 0.1), make_point(model.task, 20, peak, epoch=seed)]
        for seed, peak in zip(seeds, peaks, strict=True)
    ]
    best = [models.make_model("regression", seed).params for seed in seeds]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *best)
    (tmp_path / "checkpoints").mkdir()
    outcome = trial_module._conclude(
        run, Trial(1e-5, 16, seeds), tmp_path, curves, stacked, predict=None
    )
    assert [seed.scores["dev"]["pearson"] for seed in outcome.seeds] == list(peaks)
    kept = read_task_model(outcome.folder, make_mesh(c.MeshConfig()))
    assert models.same_params(kept.params, best[winner])
    assert kept.scores["dev"]["pearson"] == max(peaks)
    assert kept.training["seed"] == kept.training["best_epoch"] == seeds[winner]


def test_a_trial_is_trained_with_the_optimizer_and_the_rate_of_its_run():
    """Rows that weigh nothing give a gradient of 0: the decay alone moves the weights."""
    model, mesh = models.make_model(), make_mesh(c.MeshConfig())
    run = types.SimpleNamespace(
        config=finetune_config("glue", optimizer__weight_decay=0.5, schedule__warmup="1 steps"),
        objective=TaskObjective(model.encoder, model.head, "classification"),
        mesh=mesh,
        limits=model.limits,
        start=types.SimpleNamespace(
            params={name: model.params[name] for name in ("embedding", "layers")}
        ),
        train=types.SimpleNamespace(rows=[0] * 48),
    )
    trial = Trial(0.25, 8, (3,))
    batch = {
        "tokens": np.full((1, 8, 16), 5, np.int32),
        "targets": np.zeros((1, 8), np.int32),
        "weights": np.zeros((1, 8), np.float32),
    }
    with jax.set_mesh(mesh):
        programs = trial_module._Programs(run, trial, trial_module.plan_of(run, trial))
        state, metrics = programs.step(programs.init(run.start.params), batch)
    assert metrics.learning_rate == 0.25
    for name, before in run.start.params.items():
        places = jax.tree_util.tree_leaves_with_path(before)
        after = jax.tree.leaves(state.run.params[name])
        for (path, old), new in zip(places, after, strict=True):
            decays = jax.tree_util.keystr(path[-1:], simple=True) in ("kernel", "embedding")
            np.testing.assert_allclose(
                new[0], old * (1 - 0.25 * 0.5 * decays), rtol=1e-6, err_msg=str(path)
            )


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
