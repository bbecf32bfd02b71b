"""The story of a run, from a config to a trained encoder. Read this page first.

Each chapter is a function below or in `resume`; the loop itself is in `loop`.
"""

import contextlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from roberta_jax import config as config_lib
from roberta_jax.checkpoint.store import CheckpointStore, Restored
from roberta_jax.config import EncoderConfig, PretrainConfig, ProbeConfig
from roberta_jax.data.loader import Loader
from roberta_jax.data.mixture import MixedDataset, RowSource
from roberta_jax.data.output_folder import local_path, new_folder
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.data.tokenizer_folder import load_tokenizer
from roberta_jax.encoder.attention import check_implementation
from roberta_jax.encoder.model import count_params
from roberta_jax.errors import INTERRUPTED, MachineError
from roberta_jax.parallel.host_memory import keep_freed_memory
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.parallel.placement import placed_ahead, rows_here
from roberta_jax.parallel.processes import advise, all_or_none, is_first, on_first
from roberta_jax.parallel.tables import abstract
from roberta_jax.train import workdir as workdir_lib
from roberta_jax.train.console import RunConsole
from roberta_jax.train.evaluate import Evaluation, make_evaluator
from roberta_jax.train.inputs import InputMaker
from roberta_jax.train.loop import Hooks, Rhythm, run_loop
from roberta_jax.train.metrics import MetricsLog
from roberta_jax.train.plan import Phase, Plan, make_plan
from roberta_jax.train.programs import compile_step, kept_programs, make_programs
from roberta_jax.train.progress import Progress
from roberta_jax.train.resume import (
    announce_resume,
    check_resume,
    new_state,
    progress_of,
    restore,
)
from roberta_jax.train.run_data import RunData, check_padding, open_data, resolve
from roberta_jax.train.same_run import (
    check_same_run,
    check_shared_folder,
    locked,
    with_same_microbatches,
)
from roberta_jax.train.shapes import check_shapes
from roberta_jax.train.state import TrainState
from roberta_jax.train.telling import of_pretraining

# (settings, encoder, tokenizer, mesh) → weights → scores.
ProbeMaker = Callable[
    [ProbeConfig, EncoderConfig, Tokenizer, Mesh], Callable[[Any], dict[str, float]]
]


def pretrain(
    config: PretrainConfig,
    workdir: str | Path,
    *,
    resume: str = "auto",
    init_from: str = "",
    make_probe: ProbeMaker | None = None,
) -> int:
    """Pretrains an encoder, or goes on with it.

    Args:
      config: the run; `data.path` names the prepared dataset.
      workdir: folder of everything that the run writes.
      resume: "auto" goes on from the newest good checkpoint if there is one; "never" wants an
        unused workdir; "must" wants a checkpoint; a number restarts from that step and sets
        later ones aside.
      init_from: workdir whose weights a new run begins with (a fresh optimizer, step 0); the
        vocabulary and the length of the rows may be others (see `transfer`).
      make_probe: makes what looks at `config.probe.task`; see `finetune.probe`, which is above
        this folder.

    Returns:
      The exit code: 0, or 130 after an interrupt with the state saved.

    Raises:
      UserError: something that the user can mend; nothing was changed.
    """
    workdir = local_path(workdir)
    local_path(init_from)
    keep_freed_memory()

    # ---- Data: what was prepared decides the vocabulary, and how many steps a pass has ----------
    config.validate()
    data = all_or_none("data", lambda: open_data(config))
    tokenizer = data.tokenizer()
    config = resolve(config, data.main)
    check_padding(config, tokenizer)
    plan = make_plan(config, data.num_rows)
    check_same_run(config, data, resume=resume, init_from=init_from)

    # ---- Devices ------------------------------------------------------------------------------
    mesh = make_mesh(config.mesh)
    plan = with_same_microbatches(config, plan, mesh)
    check_shapes(config, mesh)
    check_implementation(config.encoder)

    # ---- A task to look at, whose files are read before anything is written ---------------------
    probe = None
    if config.probe.every_steps:
        assert make_probe is not None, "the command line gives it"
        probe = make_probe(config.probe, config.encoder, tokenizer, mesh)

    # ---- Where the run stands ------------------------------------------------------------------
    checkpoints = workdir / workdir_lib.CHECKPOINTS_FOLDER
    on_first("resume", lambda: check_resume(workdir, config, resume=resume, init_from=init_from))
    on_first("workdir", lambda: workdir_lib.make_workdir(workdir))
    check_shared_folder(workdir)
    again = "the same command"
    if resume not in ("auto", "must"):
        again += " with --resume=auto"
    advise(
        f"Run {again} again on all processes, also on another number of them: it goes on from the "
        f"newest checkpoint in {checkpoints}"
    )

    with (
        locked(workdir),
        kept_programs(workdir / workdir_lib.PROGRAMS_FOLDER),
        jax.set_mesh(mesh),
        RunConsole(speaks=is_first()) as console,
        CheckpointStore(checkpoints, config.checkpoint) as store,
    ):
        # ---- The model and its steps ----------------------------------------------------------
        maker = InputMaker.of(config, tokenizer, data.main)
        programs = make_programs(config, plan, maker, mesh)
        target = abstract(programs.shapes, mesh)

        # ---- The state: restored, taken over, or new --------------------------------------------
        events: list[tuple[str, str]] = []  # For the record, which is not open yet.

        def note(event: str, message: str) -> None:
            console.say(message)
            events.append((event, message))

        restored = restore(store, target, resume=resume, note=note)
        if restored is None:
            progress = Progress(step=0)
            state = new_state(programs.init, init_from, mesh, config, tokenizer, note=note)
        else:
            progress, state = progress_of(restored, data), restored.state
        announce(config, plan, data, mesh, progress, console=console)
        if restored is not None:
            announce_resume(config, plan, data, restored, note=note)
        if progress.step >= plan.num_steps:
            return 0
        on_first("config", lambda: workdir_lib.write_config(workdir, config))
        on_first("tokenizer", lambda: keep_tokenizer(tokenizer, workdir))

        # ---- The loop --------------------------------------------------------------------------
        evaluator = make_evaluator(config.encoder, maker, mesh)

        def evaluate(state: TrainState, phase: Phase) -> Evaluation | None:
            validation = data.of_path[phase.path].validation
            if validation is None:
                return None
            return evaluator(
                state.evaluated,
                validation,
                batch_size=phase.batch_size // phase.num_microbatches,
                max_rows=config.train.evaluation_rows,
            )

        def restore_newest() -> Restored:
            newest = store.restore_newest(target, console.say)
            assert newest is not None, "the loop has looked"
            return newest

        hooks = Hooks(
            compile=lambda phase, *arrays: compile_step(programs.steps[phase.number], *arrays),
            batches=lambda phase, progress: batches_of(config, data, mesh, phase, progress),
            evaluate=evaluate,
            record=lambda progress: checkpoint_record(config, data, progress),
            restore=restore_newest,
            telling=of_pretraining(config),
            probe=None if probe is None else lambda state: probe(state.evaluated),
        )
        after_step = -1 if restored is None else progress.step
        with MetricsLog(workdir, after_step=after_step, writes=is_first()) as log:
            if restored is None:
                log_unigram_entropy(log, data.of_path[plan.phases[0].path].train)
            for event, message in events:
                log.note(event, message, step=progress.step, examples_seen=progress.examples_seen)
            with explained_memory(plan):
                complete = run_loop(
                    Rhythm.of(config),
                    plan,
                    state,
                    progress,
                    hooks,
                    store=store,
                    log=log,
                    console=console,
                )
        if complete:
            console.say(f"done: {progress.step:,} steps, checkpoints in {checkpoints}")
            return 0
        console.say(f"interrupted: step {progress.step:,} is saved; {again} goes on from there")
        return INTERRUPTED


def batches_of(
    config: PretrainConfig, data: RunData, mesh: Mesh, phase: Phase, progress: Progress
) -> Generator[dict[str, Any]]:
    """Batches of a phase, on the devices before they are needed.

    A phase goes on in its dataset where the phases before it on the same one ended.
    """
    source = data.of_path[phase.path]
    loader = Loader(
        source.train,
        batch_size=phase.batch_size,
        seed=config.seed,
        weights=source.weights,
        labels=config.encoder.next_sentence_head,
        rows=rows_here(mesh, phase.batch_size),
        num_threads=config.data.num_read_threads,
        num_workers=config.data.num_read_processes,
    )
    position = progress.rows_seen.get(phase.path, 0)
    return placed_ahead(loader.batches(position), mesh, ahead=config.data.prefetch_batches)


@contextlib.contextmanager
def explained_memory(plan: Plan) -> Iterator[None]:
    """Turns what XLA raises when the memory of a device runs out into one paragraph."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        rows = " and ".join(
            sorted({f"{phase.batch_size // phase.num_microbatches:,}" for phase in plan.phases})
        )
        raise MachineError(
            f"The memory of a device ran out: {' '.join(str(error).split())[:200]}. A microbatch "
            f"has {rows} rows over {jax.device_count()} devices: raise train.num_microbatches from "
            f"{max(phase.num_microbatches for phase in plan.phases)} (the same gradient, in more "
            "parts), or set encoder.rematerialization=full."
        ) from error


def checkpoint_record(config: PretrainConfig, data: RunData, progress: Progress) -> dict[str, Any]:
    """What is stored beside the arrays."""
    return {
        "config": config_lib.to_dict(config),
        "examples_seen": progress.examples_seen,
        "data_fingerprint": data.fingerprint,
        "datasets": data.fingerprints(),
        "progress": progress.to_record(),
    }


def announce(
    config: PretrainConfig,
    plan: Plan,
    data: RunData,
    mesh: Mesh,
    progress: Progress,
    *,
    console: RunConsole,
) -> None:
    """Says what is about to happen."""
    encoder = config.encoder
    if progress.step >= plan.num_steps:
        console.say(
            f"nothing to do: the checkpoint has {progress.step:,} of {plan.num_steps:,} steps"
        )
        return
    console.say(
        f"encoder: {encoder.num_layers} layers x {encoder.hidden_size}, vocabulary "
        f"{encoder.vocab_size:,}, {count_params(encoder) / 1e6:,.1f}M parameters, "
        f"{encoder.compute_dtype}"
    )
    for phase in plan.phases:
        for line in data_lines(phase, data):
            console.say(line)
    shape = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    processes = jax.process_count()
    of = f" of {processes} processes" if processes > 1 else ""
    console.say(f"devices: {jax.device_count()} {jax.devices()[0].device_kind}{of} ({shape})")


def data_lines(phase: Phase, data: RunData) -> Iterator[str]:
    """What a phase reads, a line for each dataset."""
    source = data.of_path[phase.path]
    mixed = isinstance(source.train, MixedDataset)
    datasets = source.train.datasets if isinstance(source.train, MixedDataset) else [source.train]
    parts = ""
    if phase.num_microbatches > 1:
        rows = phase.batch_size // phase.num_microbatches
        parts = f" ({phase.num_microbatches:,} microbatches of {rows:,})"
    for one, weight in zip(datasets, source.weights, strict=True):
        share = weight / sum(source.weights)
        part = f" ({share:.1%} of them from {one.folder})" if mixed else ""
        passes = phase.num_steps * phase.batch_size * share / len(one)
        yield (
            f"data: {len(one):,} rows of {phase.sequence_length} tokens; {phase.num_steps:,} steps "
            f"of {phase.batch_size:,} rows{parts}{part} are {passes:,.1f} passes"
        )


def keep_tokenizer(tokenizer: Tokenizer, workdir: Path) -> None:
    """Writes the tokenizer beside the checkpoints, so that a workdir is complete in itself.

    That of a run which ended before its first checkpoint, on other data, is replaced.
    """
    target = workdir / workdir_lib.TOKENIZER_FOLDER
    if target.exists() and load_tokenizer(target).fingerprint == tokenizer.fingerprint:
        return
    with new_folder(target) as partial:
        tokenizer.save(partial)


def log_unigram_entropy(log: MetricsLog, dataset: RowSource) -> None:
    """Records the loss of the best guess that ignores the context; a model has to get below it.

    Of a mixture, it is not known: how often a token occurs depends on the weights.
    """
    if isinstance(dataset, MixedDataset):
        return
    nats = dataset.manifest.splits["train"].unigram_entropy_nats
    log.write("event", step=0, examples_seen=0, event="unigram_entropy", nats=nats)
