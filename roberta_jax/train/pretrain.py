"""The story of a run, from a config to a trained encoder. Read this page first.

Each chapter is a function below or in `resume`; the loop itself is in `loop`.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from roberta_jax import config as config_lib
from roberta_jax.checkpoint.store import CheckpointStore
from roberta_jax.config import PretrainConfig
from roberta_jax.data.loader import Loader
from roberta_jax.data.mixture import MixedDataset, RowSource, open_rows, weights_of
from roberta_jax.data.output_folder import local_path, new_folder
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.data.tokenizer_folder import load_tokenizer
from roberta_jax.encoder.attention import check_implementation
from roberta_jax.encoder.model import abstract_params, count_params
from roberta_jax.errors import INTERRUPTED, MachineError, UserError
from roberta_jax.objective.masking import Masker
from roberta_jax.parallel.host_memory import keep_freed_memory
from roberta_jax.parallel.mesh import check_batch, make_mesh
from roberta_jax.parallel.placement import placed_ahead
from roberta_jax.parallel.tables import abstract, path_name, shardings
from roberta_jax.train import workdir as workdir_lib
from roberta_jax.train.console import RunConsole
from roberta_jax.train.evaluate import make_evaluator
from roberta_jax.train.loop import Hooks, Progress, Window, run_loop
from roberta_jax.train.metrics import MetricsLog
from roberta_jax.train.resume import (
    announce_resume,
    check_resume,
    new_state,
    progress_of,
    restore,
)
from roberta_jax.train.step import compile_step


def pretrain(
    config: PretrainConfig, workdir: str | Path, *, resume: str = "auto", init_from: str = ""
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

    Returns:
      The exit code: 0, or 130 after an interrupt with the state saved.

    Raises:
      UserError: something that the user can mend; nothing was changed.
    """
    workdir = local_path(workdir)
    local_path(init_from)

    # ---- Data: what was prepared decides the vocabulary ------------------------------------
    config.validate()
    dataset, validation = open_data(config)
    tokenizer = dataset.tokenizer()
    weights = weights_of(dataset, config.data.weights)
    config = resolve(config, dataset)
    check_padding(config, tokenizer)

    # ---- Devices ------------------------------------------------------------------------------
    keep_freed_memory()
    check_one_process()
    mesh = make_mesh(config.mesh)
    check_batch(config.train, mesh)
    check_shapes(config, mesh)
    check_implementation(config.encoder)

    # ---- Where the run stands ------------------------------------------------------------------
    checkpoints = workdir / workdir_lib.CHECKPOINTS_FOLDER
    check_resume(workdir, config, resume=resume, init_from=init_from)
    workdir_lib.make_workdir(workdir)

    with (
        workdir_lib.locked(workdir),
        jax.set_mesh(mesh),
        RunConsole() as console,
        CheckpointStore(checkpoints, config.checkpoint) as store,
    ):
        # ---- The model and its step -----------------------------------------------------------
        masker = Masker.of(config.masking, tokenizer, attention=config.data.attention)
        init, step, shapes = compile_step(config, masker, mesh)

        # ---- The state: restored, taken over, or new --------------------------------------------
        events: list[tuple[str, str]] = []  # For the record, which is not open yet.

        def note(event: str, message: str) -> None:
            console.say(message)
            events.append((event, message))

        restored = restore(store, abstract(shapes, mesh), resume=resume, note=note)
        if restored is None:
            progress = Progress(step=0, examples_seen=0, window=Window())
            state = new_state(init, init_from, mesh, config, tokenizer, note=note)
        else:
            progress, state = progress_of(restored), restored.state
        announce(config, dataset, mesh, progress, console=console)
        if restored is not None:
            announce_resume(config, dataset, restored, note=note)
        if progress.step >= config.train.num_steps:
            return 0
        workdir_lib.write_config(workdir, config)
        keep_tokenizer(tokenizer, workdir)

        # ---- Batches, on the devices before they are needed -------------------------------------
        loader = Loader(
            dataset,
            batch_size=config.train.batch_size,
            seed=config.seed,
            weights=weights,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            num_threads=config.data.num_read_threads,
            num_workers=config.data.num_read_processes,
        )
        batches = placed_ahead(
            loader.batches(progress.examples_seen), mesh, ahead=config.data.prefetch_batches
        )

        # ---- The loop --------------------------------------------------------------------------
        evaluator = make_evaluator(config, masker, mesh)
        hooks = Hooks(
            step=step,
            batches=batches,
            evaluate=None if validation is None else lambda params: evaluator(params, validation),
            record=lambda progress: checkpoint_record(config, dataset, progress),
        )
        after_step = -1 if restored is None else progress.step
        with contextlib.closing(batches), MetricsLog(workdir, after_step=after_step) as log:
            if restored is None:
                log_unigram_entropy(log, dataset)
            for event, message in events:
                log.note(event, message, step=progress.step, examples_seen=progress.examples_seen)
            with explained_memory(config):
                complete = run_loop(
                    config, state, progress, hooks, store=store, log=log, console=console
                )
        if complete:
            console.say(f"done: {progress.step:,} steps, checkpoints in {checkpoints}")
            return 0
        again = "the same command"
        if init_from or resume not in ("auto", "must"):
            again += " with --resume=auto and without --init_from"
        console.say(f"interrupted: step {progress.step:,} is saved; {again} goes on from there")
        return INTERRUPTED


@contextlib.contextmanager
def explained_memory(config: PretrainConfig) -> Iterator[None]:
    """Turns what XLA raises when the memory of a device runs out into one paragraph."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        train = config.train
        raise MachineError(
            f"The memory of a device ran out: {' '.join(str(error).split())[:200]}. A microbatch "
            f"has {train.batch_size // train.num_microbatches:,} rows over {jax.device_count()} "
            "devices: raise train.num_microbatches (the same gradient, in more parts), or set "
            "encoder.rematerialization=full."
        ) from error


def check_one_process() -> None:
    """Refuses to run on several hosts: each would write the same files."""
    if jax.process_count() > 1:
        raise UserError(
            f"This is one of {jax.process_count()} processes, and a run on several hosts is not "
            "supported yet. Start it on one host, on all of its devices."
        )


def open_data(config: PretrainConfig) -> tuple[RowSource, RowSource | None]:
    """The training rows, and the validation rows if there are any; checked against the config."""
    if not config.data.path:
        raise UserError(
            "config.data.path is empty. Give the folder that `roberta-jax prepare` wrote: "
            "--config.data.path=DATASET."
        )
    dataset = open_rows(config.data.path, "train")
    manifest = dataset.manifest
    if manifest.sequence_length != config.data.sequence_length:
        raise UserError(
            f"The dataset {config.data.path} has rows of {manifest.sequence_length} tokens, and "
            f"config.data.sequence_length is {config.data.sequence_length}. Set "
            f"--config.data.sequence_length={manifest.sequence_length}, or prepare the text again "
            f"with --sequence_length={config.data.sequence_length}."
        )
    wanted = config.data.tokenizer_fingerprint
    if wanted and wanted != manifest.tokenizer.fingerprint:
        raise UserError(
            f"The dataset {config.data.path} was prepared with the tokenizer "
            f"{manifest.tokenizer.fingerprint}, and config.data.tokenizer_fingerprint asks for "
            f"{wanted}. Prepare the text with that tokenizer, or leave the setting empty to take "
            "the dataset's."
        )
    if config.encoder.vocab_size not in (0, manifest.tokenizer.vocab_size):
        raise UserError(
            f"The dataset {config.data.path} was prepared with a tokenizer of "
            f"{manifest.tokenizer.vocab_size} entries, and config.encoder.vocab_size is "
            f"{config.encoder.vocab_size}. Set --config.encoder.vocab_size=0 to take the "
            "dataset's, or prepare the text with the other tokenizer."
        )
    if not len(dataset):
        raise UserError(f"The dataset {config.data.path} has no training rows; prepare more text.")
    validation = open_rows(config.data.path, "validation")
    return dataset, validation if len(validation) else None


def resolve(config: PretrainConfig, dataset: RowSource) -> PretrainConfig:
    """The config with everything in it that the dataset decides; this is what is stored."""
    identity = dataset.manifest.tokenizer
    return dataclasses.replace(
        config,
        data=dataclasses.replace(
            config.data,
            tokenizer_fingerprint=identity.fingerprint,
            attention=config.data.attention or dataset.manifest.attention,
        ),
        encoder=dataclasses.replace(config.encoder, vocab_size=identity.vocab_size),
    )


def check_padding(config: PretrainConfig, tokenizer: Tokenizer) -> None:
    """Refuses a model that takes another id for padding than the rows do."""
    if tokenizer.pad_id != config.encoder.pad_id:
        raise UserError(
            f"The dataset {config.data.path} pads its rows with id {tokenizer.pad_id}, and "
            f"config.encoder.pad_id is {config.encoder.pad_id}. Set "
            f"--config.encoder.pad_id={tokenizer.pad_id}."
        )


def check_shapes(config: PretrainConfig, mesh: Mesh) -> None:
    """Refuses a mesh over which the weights cannot be split evenly."""
    shapes = abstract_params(config.encoder)
    for (path, leaf), sharding in zip(
        jax.tree_util.tree_leaves_with_path(shapes),
        jax.tree.leaves(shardings(shapes, mesh)),
        strict=True,
    ):
        try:
            sharding.shard_shape(leaf.shape)
        except ValueError as error:
            sizes = " x ".join(f"{axis}={size}" for axis, size in mesh.shape.items())
            raise UserError(
                f"The mesh {sizes} cannot split the weights {path_name(path)} of shape "
                f"{leaf.shape} evenly. Choose mesh.fsdp and mesh.tensor that divide "
                "encoder.hidden_size, encoder.mlp_size and encoder.vocab_padding_multiple."
            ) from error


def checkpoint_record(
    config: PretrainConfig, dataset: RowSource, progress: Progress
) -> dict[str, Any]:
    """What is stored beside the arrays."""
    return {
        "config": config_lib.to_dict(config),
        "examples_seen": progress.examples_seen,
        "data_fingerprint": dataset.fingerprint,
        "window": dataclasses.asdict(progress.window),
    }


def announce(
    config: PretrainConfig,
    dataset: RowSource,
    mesh: Mesh,
    progress: Progress,
    *,
    console: RunConsole,
) -> None:
    """Says what is about to happen."""
    encoder, train = config.encoder, config.train
    if progress.step >= train.num_steps:
        console.say(
            f"nothing to do: the checkpoint has {progress.step:,} of {train.num_steps:,} steps"
        )
        return
    console.say(
        f"encoder: {encoder.num_layers} layers x {encoder.hidden_size}, vocabulary "
        f"{encoder.vocab_size:,}, {count_params(encoder) / 1e6:,.1f}M parameters, "
        f"{encoder.compute_dtype}"
    )
    examples = train.num_steps * train.batch_size
    datasets = dataset.datasets if isinstance(dataset, MixedDataset) else [dataset]
    weights = weights_of(dataset, config.data.weights)
    for one, weight in zip(datasets, weights, strict=True):
        share = weight / sum(weights)
        part = f" ({share:.1%} of them from {one.folder})" if len(datasets) > 1 else ""
        console.say(
            f"data: {len(one):,} rows of {config.data.sequence_length} tokens; "
            f"{train.num_steps:,} steps of {train.batch_size:,} rows{part} are "
            f"{examples * share / len(one):,.1f} passes"
        )
    shape = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    console.say(f"devices: {jax.device_count()} {jax.devices()[0].device_kind} ({shape})")


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
