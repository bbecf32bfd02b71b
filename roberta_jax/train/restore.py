"""Weights out of a workdir, without its optimizer, on any mesh."""

from pathlib import Path

from jax.sharding import Mesh

from roberta_jax.checkpoint.store import CheckpointStore
from roberta_jax.config import PretrainConfig
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.data.tokenizer_folder import load_tokenizer
from roberta_jax.encoder.model import Params, abstract_params
from roberta_jax.errors import UserError
from roberta_jax.parallel.processes import check_same, from_first
from roberta_jax.parallel.tables import abstract
from roberta_jax.train.workdir import CHECKPOINTS_FOLDER, TOKENIZER_FOLDER, read_config


def choose_step(store: CheckpointStore, step: int) -> int:
    """`step` if there is such a checkpoint, the newest one for -1; else UserError."""
    steps = store.steps()
    if not steps:
        raise UserError(f"{store.folder} holds no complete checkpoint.")
    if step == -1:
        return steps[-1]
    if step not in steps:
        raise UserError(f"{store.folder} has no checkpoint of step {step}. It has: {steps}.")
    return step


def load_run(workdir: Path, mesh: Mesh, *, step: int = -1) -> tuple[PretrainConfig, Params, int]:
    """The config, the verified weights (their average, if kept) and the step of a checkpoint.

    This may be another machine than the run's, so the config leaves the kernels to it.

    Args:
      workdir: of a pretraining run.
      mesh: where the weights are placed.
      step: which checkpoint; -1 for the newest.
    """
    config = read_config(workdir)
    config.encoder.attention_implementation = "auto"
    # Where the run keeps an average of the weights, that is what was evaluated.
    field = "average" if config.optimizer.average_decay else "params"
    target = {field: abstract(abstract_params(config.encoder), mesh)}
    with CheckpointStore(workdir / CHECKPOINTS_FOLDER) as store:
        chosen = from_first("step of the weights", lambda: choose_step(store, step))
        restored = store.restore_part(chosen, target)
    check_same(
        "weights to begin with",
        {
            path: value
            for path, value in restored.record["fingerprint"].items()
            if path.startswith(f"{field}/")
        },
        f"Put {workdir} on a file system that all processes share.",
    )
    return config, restored.state[field], chosen


def load_run_tokenizer(workdir: Path, config: PretrainConfig) -> Tokenizer:
    """The tokenizer of a workdir.

    Raises:
      UserError: it is missing, or not the one that the model was trained with.
    """
    folder, wanted = workdir / TOKENIZER_FOLDER, config.data.tokenizer_fingerprint
    tokenizer = load_tokenizer(folder)
    if tokenizer.fingerprint != wanted:
        raise UserError(
            f"{folder} holds the tokenizer {tokenizer.fingerprint}, and the model was trained with "
            f"{wanted}. Bring that one back, from the dataset of the run for example."
        )
    return tokenizer
