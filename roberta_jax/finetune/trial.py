"""One learning rate and batch size with several seeds: the same loop and store as pretraining."""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Generator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from roberta_jax.checkpoint.store import CheckpointStore, Restored
from roberta_jax.config import (
    CheckpointConfig,
    DataConfig,
    DivergenceConfig,
    PretrainConfig,
    TrainConfig,
)
from roberta_jax.encoder.model import Params
from roberta_jax.finetune.evaluate import Predictor, TaskEvaluation, evaluate_seeds
from roberta_jax.finetune.model_folder import TaskModelFolder, write_task_model
from roberta_jax.finetune.programs import TrialPrograms, explained_memory
from roberta_jax.finetune.state import FinetuneState
from roberta_jax.finetune.task_run import TaskRun, Trial, TrialOutcome
from roberta_jax.finetune.telling import of_finetuning
from roberta_jax.finetune.trial_record import (
    BEST_FOLDER,
    SETTINGS_FILE,
    TRIAL_FILE,
    check_settings,
    check_with_others,
    read_outcome,
    settings_of,
)
from roberta_jax.tasks.results import CurvePoint, SeedResult, curve_point, seed_result
from roberta_jax.tasks.scores import confusion_matrix
from roberta_jax.train.console import RunConsole
from roberta_jax.train.loop import Hooks, Rhythm, run_loop
from roberta_jax.train.metrics import MetricsLog
from roberta_jax.train.plan import Phase, Plan, make_plan
from roberta_jax.train.programs import compile_step
from roberta_jax.train.progress import Progress
from roberta_jax.train.workdir import CHECKPOINTS_FOLDER, replace_text

_TRAIN = "train"  # The one dataset of the plan.
_KEPT = CheckpointConfig(save_every_steps=1, keep_last=1, keep_best=0)
# Losses of small batches jump: no spike is looked for.
_DIVERGENCE = DivergenceConfig(spike_z_score=float("inf"))


def plan_of(run: TaskRun, trial: Trial) -> Plan:
    """Its steps: whole epochs, the last batch of each filled up; its learning rate has the peak 1.

    The peak of the trial is an argument of the step.
    """
    config, rows = run.config, len(run.train.rows)
    steps_per_epoch = -(-rows // trial.batch_size)
    num_steps = max(1, round(config.fit.epochs * steps_per_epoch))
    return make_plan(
        PretrainConfig(
            data=DataConfig(path=_TRAIN, sequence_length=run.limits.max_length),
            optimizer=dataclasses.replace(config.optimizer, peak_learning_rate=1.0),
            schedule=config.schedule,
            train=TrainConfig(
                duration=f"{num_steps} steps", batch_size=trial.batch_size, num_microbatches=1
            ),
        ),
        lambda path: rows,
    )


def run_trial(
    run: TaskRun, trial: Trial, folder: pathlib.Path, console: RunConsole
) -> TrialOutcome | None:
    """Trains and judges the seeds of a trial, or goes on with it.

    Call it under the mesh.

    Returns:
      What came of it; None after an interrupt, with the state saved.

    Raises:
      UserError: the folder has a trial with other settings.
    """
    settings = settings_of(run, trial)
    check_with_others(folder.parent, settings)
    complete = (folder / TRIAL_FILE).exists()
    # Of a trial that was stopped before its first checkpoint, nothing is gone on with.
    with CheckpointStore(folder / CHECKPOINTS_FOLDER) as store:
        if complete or store.steps():
            check_settings(folder, settings)
    if complete:
        console.say(f"{trial.name}: done before")
        return read_outcome(folder)
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(folder / SETTINGS_FILE, json.dumps(settings, indent=1) + "\n")
    plan = plan_of(run, trial)
    steps_per_epoch = -(-len(run.train.rows) // trial.batch_size)
    programs = run.programs.of(len(trial.seeds), plan)
    with CheckpointStore(folder / CHECKPOINTS_FOLDER, _KEPT) as store:
        restored = store.restore_newest(programs.target, console.say)
        curves: list[list[CurvePoint]] = [[] for _ in trial.seeds]
        left_out = [0] * len(trial.seeds)  # As the newest evaluation found it.
        if restored is None:
            state, progress = programs.init(run.start.params, _seeds(run, trial)), Progress(step=0)
        else:
            state = restored.state
            progress = Progress.from_record(restored.step, restored.record["progress"])
            curves = [
                [curve_point(point) for point in curve] for curve in restored.record["curves"]
            ]
            left_out = list(restored.record["left_out"])
            console.say(f"{trial.name}: goes on from step {progress.step:,} of {plan.num_steps:,}")
        if progress.step < plan.num_steps:
            hooks = _hooks(run, trial, programs, curves, left_out, steps_per_epoch, console)
            every = max(1, steps_per_epoch // run.config.fit.evaluations_per_epoch)
            rhythm = Rhythm(
                log_every_steps=run.config.fit.log_every_steps,
                evaluate_every_steps=every,
                save_every_steps=run.config.fit.save_every_steps,
                divergence=_DIVERGENCE,
            )
            after = -1 if restored is None else progress.step
            with (
                MetricsLog(folder, after_step=after) as log,
                explained_memory(len(trial.seeds), trial.batch_size),
            ):
                complete = run_loop(
                    rhythm, plan, state, progress, hooks, store=store, log=log, console=console
                )
            del state
            if not complete:
                return None
        target = programs.target.best
        best = store.restore_part(store.steps()[-1], {"best": target}).state["best"]
    notes = tuple(
        _left_out_text(trial, seed, count, plan.num_steps)
        for seed, count in zip(trial.seeds, left_out, strict=True)
        if count
    )
    return _conclude(run, trial, folder, curves, best, programs.predict, notes)


def _seeds(run: TaskRun, trial: Trial) -> jax.Array:
    return jax.device_put(np.array(trial.seeds, np.uint32), NamedSharding(run.mesh, P()))


def _hooks(
    run: TaskRun,
    trial: Trial,
    programs: TrialPrograms,
    curves: list[list[CurvePoint]],
    left_out: list[int],
    steps_per_epoch: int,
    console: RunConsole,
) -> Hooks:
    peak = jax.device_put(np.float32(trial.learning_rate), NamedSharding(run.mesh, P()))
    given = (_seeds(run, trial), peak)

    def batches(phase: Phase, progress: Progress) -> Generator[dict[str, Any]]:
        return run.maker.training(
            run.train.rows, trial.seeds, batch_size=trial.batch_size, first_step=progress.step
        )

    def evaluate(state: FinetuneState, phase: Phase) -> TaskEvaluation:
        evaluation, _ = evaluate_seeds(run.task, run.dev, state.run.params, programs.predict)
        return dataclasses.replace(evaluation, left_out=state.left_out.tolist())

    def adopt(state: FinetuneState, evaluation: Any) -> FinetuneState:
        step = int(state.run.step[0])
        for curve, scores, threshold in zip(
            curves, evaluation.scores, evaluation.thresholds, strict=True
        ):
            curve.append(
                CurvePoint(
                    step=step,
                    epoch=step / steps_per_epoch,
                    scores=scores,
                    no_answer_threshold=threshold,
                )
            )
        for place, (seed, count) in enumerate(zip(trial.seeds, evaluation.left_out, strict=True)):
            if count > left_out[place]:
                left_out[place] = count
                console.say(_left_out_text(trial, seed, count, step))
        # By the same comparison as the results: the figures are those of the weights that stay.
        better = [
            seed_result(run.task, seed, curve).best_step == step
            for seed, curve in zip(trial.seeds, curves, strict=True)
        ]
        return programs.adopt(state, jnp.array(better))

    def record(progress: Progress) -> dict[str, Any]:
        return {
            "progress": progress.to_record(),
            "curves": [[dataclasses.asdict(point) for point in curve] for curve in curves],
            "left_out": left_out,
        }

    def restore() -> Restored:
        raise AssertionError("no spike is looked for, so nothing goes back")

    return Hooks(
        compile=lambda phase, *arrays: compile_step(programs.step, *arrays, *given),
        batches=batches,
        evaluate=evaluate,
        record=record,
        restore=restore,
        telling=of_finetuning(run.task, num_seeds=len(trial.seeds)),
        adopt=adopt,
    )


def _conclude(
    run: TaskRun,
    trial: Trial,
    folder: pathlib.Path,
    curves: list[list[CurvePoint]],
    best: Params,
    predict: Predictor,
    notes: tuple[str, ...],
) -> TrialOutcome:
    """Writes what is kept of a trial: its results, and the model of the best seed."""
    task = run.task
    seeds = tuple(
        seed_result(task, seed, curve) for seed, curve in zip(trial.seeds, curves, strict=True)
    )
    confusions: list[list[list[int]] | None] = [None] * len(seeds)
    if task.labels:
        _, predictions = evaluate_seeds(task, run.dev[:1], best, predict)
        confusions = [
            confusion_matrix(task, run.dev[0].examples, each).tolist() for each in predictions[0]
        ]
    values = [seed.scores[task.dev[0]][task.scores[0]] for seed in seeds]
    winner = int(np.argmax(values))
    write_task_model(
        folder / BEST_FOLDER,
        TaskModelFolder(
            task=task,
            encoder=run.start.config,
            params=jax.tree.map(lambda leaf: leaf[winner], best),
            tokenizer=run.start.tokenizer,
            limits=run.limits,
            family=run.start.family,
            no_answer_threshold=seeds[winner].no_answer_threshold,
            scores={split: dict(scores) for split, scores in seeds[winner].scores.items()},
            columns=run.columns,
            training=_training(run, trial, seeds[winner]),
        ),
    )
    values_of_file = {
        "settings": settings_of(run, trial),
        "seeds": [dataclasses.asdict(seed) for seed in seeds],
        "confusions": confusions,
        "notes": notes,
    }
    replace_text(folder / TRIAL_FILE, json.dumps(values_of_file, indent=1) + "\n")
    # What is needed to go on is not needed any more: four times the weights of every seed.
    shutil.rmtree(folder / CHECKPOINTS_FOLDER)
    return TrialOutcome(trial, seeds, tuple(confusions), folder / BEST_FOLDER, notes)


def _left_out_text(trial: Trial, seed: int, count: int, num_steps: int) -> str:
    """What is said of updates that were not finite."""
    return (
        f"seed {seed} at rate {trial.learning_rate:g}, batch {trial.batch_size}: {count:,} of "
        f"{num_steps:,} updates were left out, their loss or gradient was not finite"
    )


def _training(run: TaskRun, trial: Trial, seed: SeedResult) -> dict[str, Any]:
    """What a reader of the model's card wants to know."""
    config = run.config
    return {
        "init_from": run.start.description,
        "num_train": len(run.train.rows),
        "learning_rate": trial.learning_rate,
        "batch_size": trial.batch_size,
        "epochs": config.fit.epochs,
        "best_epoch": seed.best_epoch,
        "warmup": config.schedule.warmup,
        "weight_decay": config.optimizer.weight_decay,
        "head_dropout_rate": config.model.head_dropout_rate,
        "seed": seed.seed,
    }
