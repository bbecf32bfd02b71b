"""What a trial leaves on the disk: its settings, and its results when it is complete.

Trials with other settings are not gone on with, nor compared with: the results of a task are those
of one set of examples, one beginning and one recipe, over rates, batch sizes and seeds.
"""

import json
import pathlib
import shutil
from collections.abc import Collection
from typing import Any

from roberta_jax import config as config_lib
from roberta_jax.errors import UserError
from roberta_jax.finetune.task_run import TaskRun, Trial, TrialOutcome
from roberta_jax.tasks.results import SeedResult, curve_point
from roberta_jax.train.workdir import CHECKPOINTS_FOLDER

SETTINGS_FILE = "settings.json"
TRIAL_FILE = "trial.json"  # Of a trial that is complete: its settings and results.
BEST_FOLDER = "best"  # The model of the best seed.
# Settings in which the trials of a task may differ.
_OF_ONE_TRIAL = ("learning_rate", "batch_size", "seeds")
# Fingerprints, and what a message calls them.
_CONTENT = {
    "rows": "the examples, or how rows are made of them",
    "weights": "the weights that it began with",
}


def settings_of(run: TaskRun, trial: Trial) -> dict[str, Any]:
    """What decides the result of a trial; files count by what is in them."""
    config = config_lib.to_dict(run.config)
    sweep = ("learning_rates", "batch_sizes", "batch_size")
    for name in (*sweep, "log_every_steps", "save_every_steps", "seeds_at_once"):
        del config["fit"][name]
    for name in ("num_seeds", "seed", "mesh", "table"):
        del config[name]
    for name in ("path", "train_share"):
        del config["data"][name]
    for name in ("compute_dtype", "rematerialization"):  # The encoder says what "auto" was.
        del config["model"][name]
    del config["optimizer"]["peak_learning_rate"]
    encoder = config_lib.to_dict(run.start.config)
    del encoder["rematerialization"]
    return {
        **config,
        "encoder": encoder,
        # By number; rows have nothing else of them. A regression's targets are scaled.
        "labels": list(run.task.labels),
        "scale": [run.task.scale, run.task.shift],
        "learning_rate": trial.learning_rate,
        "batch_size": trial.batch_size,
        "seeds": list(trial.seeds),
        "num_train": len(run.train.rows),
        **run.content,
    }


def check_settings(folder: pathlib.Path, settings: dict[str, Any]) -> None:
    """Raises UserError that names what differs from the settings in a trial's folder, if any."""
    path = folder / SETTINGS_FILE
    if not path.exists():
        return
    stored, wanted = _flat(json.loads(path.read_text(encoding="utf-8"))), _flat(settings)
    names = [name for name in wanted if stored.get(name) != wanted[name]]
    if names:
        different = ", ".join(
            _CONTENT.get(name, f"{name} ({stored.get(name)!r}, now {wanted[name]!r})")
            for name in names
        )
        raise UserError(
            f"{folder} has a trial with other settings: {different}. Choose another --workdir, or "
            "run with the settings of before."
        )


def check_with_others(trials: pathlib.Path, settings: dict[str, Any]) -> None:
    """Raises UserError if a complete trial of a task cannot be compared with one of these settings.

    Args:
      trials: the folder of the task's trials.
      settings: of a trial that is to be made.
    """
    common = {name: value for name, value in settings.items() if name not in _OF_ONE_TRIAL}
    for path in sorted(trials.glob(f"*/{TRIAL_FILE}")):
        check_settings(path.parent, common)


def read_outcome(folder: pathlib.Path) -> TrialOutcome:
    """What came of a complete trial."""
    values = json.loads((folder / TRIAL_FILE).read_text(encoding="utf-8"))
    shutil.rmtree(folder / CHECKPOINTS_FOLDER, ignore_errors=True)  # Of a run killed at its end.
    seeds = tuple(
        SeedResult(**{**seed, "curve": tuple(map(curve_point, seed["curve"]))})
        for seed in values["seeds"]
    )
    settings = values["settings"]
    trial = Trial(settings["learning_rate"], settings["batch_size"], tuple(settings["seeds"]))
    confusions, notes = tuple(values["confusions"]), tuple(values["notes"])
    return TrialOutcome(trial, seeds, confusions, folder / BEST_FOLDER, notes)


def earlier_outcomes(
    trials: pathlib.Path, present: Collection[TrialOutcome]
) -> tuple[list[TrialOutcome], list[TrialOutcome]]:
    """The complete trials of earlier runs: those that count beside the present, and the others.

    One is left out that has, at the same rate and batch size, a seed of another that counts: a
    seed counts once.
    """
    taken = {
        (each.trial.learning_rate, each.trial.batch_size, seed)
        for each in present
        for seed in each.trial.seeds
    }
    found, left_out = [], []
    names = {each.trial.name for each in present}
    for path in sorted(trials.glob(f"*/{TRIAL_FILE}")):
        if path.parent.name in names:
            continue
        outcome = read_outcome(path.parent)
        trial = outcome.trial
        own = {(trial.learning_rate, trial.batch_size, seed) for seed in trial.seeds}
        if not own & taken:
            taken |= own
            found.append(outcome)
        else:
            left_out.append(outcome)
    return found, left_out


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= (
            _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        )
    return found
