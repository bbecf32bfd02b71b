"""What belongs to a trial, and which trials are compared."""

import dataclasses
import json
import types
from types import MappingProxyType

import pytest

from roberta_jax.errors import UserError
from roberta_jax.finetune.task_run import Trial
from roberta_jax.finetune.trial_record import (
    SETTINGS_FILE,
    TRIAL_FILE,
    check_settings,
    check_with_others,
    earlier_outcomes,
    read_outcome,
    settings_of,
)
from roberta_jax.tasks.catalogue import find_task
from tests.encoder import tiny
from tests.finetune.tasks_on_disk import finetune_config

TRIAL = Trial(1e-5, 16, (3, 4))


def settings(content="one", labels=("a", "b"), scale=1.0, encoder=MappingProxyType({}), **changes):
    """Of a trial of a run with these changes."""
    run = types.SimpleNamespace(
        task=dataclasses.replace(find_task("stsb"), labels=labels, scale=scale),
        start=types.SimpleNamespace(config=dataclasses.replace(tiny.CONFIG, **encoder)),
        config=finetune_config("glue", **changes),
        train=types.SimpleNamespace(rows=[0] * 48),
        content={"rows": content, "weights": "drawn"},
    )
    return settings_of(run, TRIAL)


@pytest.mark.parametrize(
    "changes",
    [
        {"fit__learning_rates": "1e-5,2e-5", "fit__batch_sizes": "16,32"},
        {"optimizer__peak_learning_rate": 1.0, "fit__batch_size": 8},
        {"num_seeds": 5, "seed": 4},
        {"fit__log_every_steps": 1, "fit__seeds_at_once": 2},
        {"fit__save_every_steps": 1},
        {"model__rematerialization": "full", "encoder": {"rematerialization": "full"}},
        {"model__compute_dtype": "float32"},
        {"mesh__data": 4},
        # Files, and the share of them that is used, count by what is in them.
        {"data__path": "elsewhere"},
        {"data__train_share": 0.999},
        {"table__test": "new.csv"},
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
        {"content": "another"},
        # Rows and weights may be the same, and yet say something else.
        {"labels": ("b", "c")},
        {"scale": 2.0},
        {"encoder": {"num_heads": 1}},
        {"encoder": {"compute_dtype": "bfloat16"}},
    ],
)
def test_what_changes_the_result_may_not(changes):
    assert settings(**changes) != settings()


def write(trials, trial, values, *, complete=True):
    folder = trials / trial.name
    folder.mkdir(parents=True)
    own = {
        "learning_rate": trial.learning_rate,
        "batch_size": trial.batch_size,
        "seeds": list(trial.seeds),
    }
    (folder / SETTINGS_FILE).write_text(json.dumps({**values, **own}))
    if complete:
        seed = {"scores": {"dev": {"accuracy": 0.5}}, "best_step": 6, "best_epoch": 1.0}
        seeds = [{**seed, "seed": number, "curve": []} for number in trial.seeds]
        values = {"settings": own, "seeds": seeds, "confusions": [None] * len(seeds), "notes": []}
        (folder / TRIAL_FILE).write_text(json.dumps(values))
    return folder


def test_a_trial_with_other_settings_is_refused_with_what_differs(tmp_path):
    folder = write(tmp_path, TRIAL, settings())
    check_settings(folder, settings())
    with pytest.raises(UserError, match=r"fit\.epochs \(2\.0, now 3\.0\)\. Choose another"):
        check_settings(folder, settings(fit__epochs=3.0))
    with pytest.raises(UserError, match="other settings: the examples, or how rows are made"):
        check_settings(folder, settings("another"))


def test_only_complete_trials_of_the_same_settings_stand_beside_a_new_one(tmp_path):
    write(tmp_path, TRIAL, settings())
    write(tmp_path, Trial(2e-5, 16, (3,)), settings(fit__epochs=7.0), complete=False)
    new = {**settings(), "learning_rate": 5e-5, "batch_size": 32, "seeds": [9]}
    check_with_others(tmp_path, new)
    with pytest.raises(UserError, match=r"fit\.epochs \(2\.0, now 3\.0\)"):
        check_with_others(tmp_path, {**new, "fit": {**new["fit"], "epochs": 3.0}})


def test_earlier_trials_count_unless_a_seed_would_count_twice(tmp_path):
    trials = [
        TRIAL,
        Trial(1e-5, 16, (4, 5)),  # Seed 4 again.
        Trial(1e-5, 16, (6,)),
        Trial(1e-5, 32, (3, 4)),
        Trial(2e-5, 16, (3,)),
    ]
    for trial in trials:
        write(tmp_path, trial, settings())
    write(tmp_path, Trial(3e-5, 16, (3,)), settings(), complete=False)
    present = [read_outcome(tmp_path / TRIAL.name)]
    assert present[0].trial == TRIAL
    found, left_out = earlier_outcomes(tmp_path, present)
    assert sorted((each.trial for each in found), key=str) == sorted(trials[2:], key=str)
    assert [each.trial for each in left_out] == [trials[1]]
    # Without any, each seed still counts once.
    found, left_out = ([each.trial for each in some] for some in earlier_outcomes(tmp_path, []))
    assert sorted(found + left_out, key=str) == sorted(trials, key=str) and len(left_out) == 1
    seeds = [(each.learning_rate, each.batch_size, seed) for each in found for seed in each.seeds]
    assert len(seeds) == len(set(seeds)) and TRIAL in found
