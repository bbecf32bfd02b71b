"""Where a run stands: what --resume and --init_from mean, and the state to begin with."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from roberta_jax import config as config_lib
from roberta_jax.checkpoint.store import CheckpointStore, Restored
from roberta_jax.config import PretrainConfig
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.errors import UserError
from roberta_jax.train import workdir as workdir_lib
from roberta_jax.train.metrics import read_lines
from roberta_jax.train.plan import Plan
from roberta_jax.train.progress import Progress
from roberta_jax.train.restore import choose_step, load_run, load_run_tokenizer
from roberta_jax.train.run_data import RunData
from roberta_jax.train.state import TrainState
from roberta_jax.train.transfer import check_transfer, transfer

_STARTING_FROM = "starting from the weights of"
Note = Callable[[str, str], None]  # One word for an event, and the line that is said.


def check_resume(workdir: Path, config: PretrainConfig, *, resume: str, init_from: str) -> None:
    """Refuses what cannot be meant, before anything is compiled or written."""
    if resume not in ("auto", "never", "must") and not resume.isdecimal():
        raise UserError(
            f"--resume={resume} is not understood. Use auto, never, must, or a step number."
        )
    with CheckpointStore(workdir / workdir_lib.CHECKPOINTS_FOLDER) as store:
        steps, damaged = store.steps(), store.set_aside()
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir={workdir} is a file; give a folder, or a name that is free.")
    if resume == "never" and (steps or damaged):
        raise UserError(
            f"--resume=never, and {workdir} already has checkpoints ({(steps or damaged)[-1]} is "
            "the newest). Choose another --workdir, or --resume=auto to go on from there."
        )
    if resume == "must" and not (steps or damaged):
        raise UserError(
            f"--resume=must, and {workdir} has no checkpoint. Check --workdir, or use "
            "--resume=auto."
        )
    if resume.isdecimal() and int(resume) not in steps:
        raise UserError(
            f"--resume={resume}, and {workdir} has no such checkpoint. It has: {steps or 'none'}."
        )
    if (workdir / workdir_lib.ORIGIN_FILE).exists():
        raise UserError(
            f"{workdir} holds an imported model, which has no optimizer to go on with. Begin a run "
            f"in another --workdir, with --init_from={workdir}."
        )
    if init_from and (steps or damaged) and not _began_from(workdir, init_from):
        raise UserError(
            f"--init_from begins a new run, and {workdir} already has checkpoints of a run that "
            f"did not begin with {init_from}. Choose another --workdir, or leave --init_from away "
            "to go on."
        )
    if steps:
        stored = workdir_lib.read_config(workdir)
        workdir_lib.check_same_model(workdir, stored, config)
        check_same_arrays(workdir, stored, config)
    elif not damaged:
        check_nothing_is_lost(workdir)
    if init_from and not (steps or damaged):
        stored = workdir_lib.read_config(Path(init_from))
        check_transfer(Path(init_from), stored, config)
        with CheckpointStore(Path(init_from) / workdir_lib.CHECKPOINTS_FOLDER) as store:
            choose_step(store, -1)
        load_run_tokenizer(Path(init_from), stored)


def _began_from(workdir: Path, init_from: str) -> bool:
    """Whether the run in a workdir says that it began with these weights.

    Then the same command is one that goes on, as after a preemption.
    """
    wanted = f"{_STARTING_FROM} {init_from}, step "
    return any(
        line.get("event") == "started" and str(line.get("message")).startswith(wanted)
        for line in read_lines(workdir / workdir_lib.METRICS_FILE)
    )


def check_same_arrays(workdir: Path, stored: PretrainConfig, wanted: PretrainConfig) -> None:
    """Refuses settings with which the optimizer's part of a checkpoint is another one."""
    before, after = stored.optimizer, wanted.optimizer
    for name, then, now in (
        ("moments_dtype", before.moments_dtype, after.moments_dtype),
        ("average_decay", before.average_decay, after.average_decay),
    ):
        if then != now and (name == "moments_dtype" or 0 in (then, now)):
            raise UserError(
                f"config.optimizer.{name} is {now}, and the checkpoints in {workdir} were written "
                f"with {then}: they hold other arrays. Set it to {then}, or begin a run in another "
                f"--workdir, with --init_from={workdir}."
            )


def check_nothing_is_lost(workdir: Path) -> None:
    """Refuses to begin again where a run got so far that it must have had a checkpoint."""
    if not (workdir / workdir_lib.CONFIG_FILE).exists():
        return
    interval = workdir_lib.read_config(workdir).checkpoint.save_every_steps
    last = max((line["step"] for line in read_lines(workdir / workdir_lib.METRICS_FILE)), default=0)
    # A save waits for the one before it, so one checkpoint is complete beyond the second interval.
    if last > 2 * interval:
        raise UserError(
            f"{workdir} has the record of {last:,} steps and no checkpoint, although one was due "
            f"every {interval:,} steps. Bring its {workdir_lib.CHECKPOINTS_FOLDER}/ back, or begin "
            "again in another --workdir."
        )


def restore(
    store: CheckpointStore, target: TrainState, *, resume: str, note: Note
) -> Restored | None:
    """The checkpoint to go on from, or None for a new run."""
    if not resume.isdecimal():
        return store.restore_newest(target, lambda line: note("damaged", line))
    restored = store.restore(int(resume), target)
    for name in store.supersede_after(restored.step):
        note(
            "restarted",
            f"restarting from step {restored.step}: a later checkpoint was set aside as {name}",
        )
    return restored


def progress_of(restored: Restored, data: RunData) -> Progress:
    """Where the run of a checkpoint stood; a dataset that was moved is known by its content."""
    progress = Progress.from_record(restored.step, restored.record["progress"])
    now = {fingerprint: path for path, fingerprint in data.fingerprints().items()}
    then = restored.record["datasets"]
    return progress.renamed(
        {
            path: now[fingerprint]
            for path, fingerprint in then.items()
            if fingerprint in now and path not in data.of_path
        }
    )


def new_state(
    init: Callable[[], TrainState],
    init_from: str,
    mesh: Mesh,
    config: PretrainConfig,
    tokenizer: Tokenizer,
    *,
    note: Note,
) -> TrainState:
    """The state of step 0; with `init_from`, its weights are those of that workdir."""
    state = init()
    if not init_from:
        return state
    source, params, step = load_run(Path(init_from), mesh)
    note("started", f"{_STARTING_FROM} {init_from}, step {step:,}")
    drawn = state.params
    moved = transfer(
        params,
        drawn,
        source=source.encoder,
        target=config.encoder,
        source_tokenizer=load_run_tokenizer(Path(init_from), source),
        target_tokenizer=tokenizer,
        say=lambda line: note("transferred", line),
    )
    average = jax.tree.map(jnp.copy, moved) if state.average else {}
    return dataclasses.replace(state, params=moved, average=average)


def announce_resume(
    config: PretrainConfig, plan: Plan, data: RunData, restored: Restored, *, note: Note
) -> None:
    """Says where the run goes on, and what differs from then: settings, the data."""
    step, record = restored.step, restored.record
    if step < plan.num_steps:
        note("resumed", f"going on from step {step:,} ({record['examples_seen']:,} rows seen)")
    stored = config_lib.from_dict(PretrainConfig, record["config"])
    for name, (before, after) in workdir_lib.changed_settings(stored, config).items():
        note(
            "changed",
            f"changed since the checkpoint: config.{name} was {before!r}, is {after!r}",
        )
    if record["data_fingerprint"] != data.fingerprint:
        note(
            "changed",
            f"changed since the checkpoint: the dataset, {record['data_fingerprint']} to "
            f"{data.fingerprint}; the order of the rows is another one from here on",
        )
