"""Masked-LM loss of a checkpoint on a prepared dataset, with the masks of every evaluation."""

import dataclasses
from pathlib import Path

import jax
from jax.sharding import Mesh

from roberta_jax.config import MeshConfig
from roberta_jax.data.mixture import open_rows
from roberta_jax.data.output_folder import local_path
from roberta_jax.errors import UserError
from roberta_jax.inference.source import open_source, source_config, tokenizer_folder
from roberta_jax.parallel.mesh import make_mesh, num_batch_shards
from roberta_jax.train.evaluate import Evaluation, make_evaluator
from roberta_jax.train.inputs import InputMaker

TOKENS_PER_DEVICE = 2**15  # Of one batch, at most.


def evaluate_model(
    model: str | Path,
    *,
    step: int = -1,
    data: str = "",
    split: str = "validation",
    max_rows: int = 0,
) -> tuple[int, Evaluation]:
    """Evaluates a checkpoint.

    Args:
      model: workdir of a pretraining run, or a Hugging Face or fairseq folder.
      step: which checkpoint; -1 for the newest.
      data: a prepared dataset; "" for the one that the run was trained on.
      split: which of its splits.
      max_rows: evenly spaced rows to use; 0 for all.

    Returns:
      The step, and the means over all predictions.
    """
    folder = local_path(model)
    config = source_config(folder)
    path = data or config.main_path()
    if not path:
        raise UserError(f"{folder} was not trained here; give a prepared dataset by --data.")
    dataset = open_rows(path, split)
    if dataset.manifest.tokenizer.fingerprint != config.data.tokenizer_fingerprint:
        raise UserError(
            f"The dataset {dataset.folder} was prepared with the tokenizer "
            f"{dataset.manifest.tokenizer.fingerprint}, and the model was trained with "
            f"{config.data.tokenizer_fingerprint}. Prepare the text with the tokenizer in "
            f"{tokenizer_folder(folder)}."
        )
    if dataset.sequence_length > config.encoder.max_positions:
        raise UserError(
            f"The rows of {dataset.folder} have {dataset.sequence_length} tokens; this model "
            f"takes at most {config.encoder.max_positions}."
        )
    if not len(dataset):
        raise UserError(f"The split {split!r} of {dataset.folder} has no rows.")
    mesh = _mesh_for(config.mesh)
    # Filled up to a multiple of the devices that are here: this may be another machine than the
    # run's.
    shards = num_batch_shards(mesh)
    rows = min(
        config.train.batch_size,
        shards * max(TOKENS_PER_DEVICE // dataset.sequence_length, 1),
    )
    with jax.set_mesh(mesh):
        config, params, _, chosen = open_source(folder, mesh, step=step)
        # The run's own rows are seen as in the run, which may have chosen otherwise.
        attention = dataset.manifest.attention if data else config.data.attention
        config = dataclasses.replace(
            config, data=dataclasses.replace(config.data, attention=attention)
        )
        maker = InputMaker.of(config, dataset.tokenizer(), dataset)
        evaluator = make_evaluator(config.encoder, maker, mesh)
        return chosen, evaluator(
            params,
            dataset,
            batch_size=-(-rows // shards) * shards,
            max_rows=max_rows or len(dataset),
        )


def _mesh_for(config: MeshConfig) -> Mesh:
    """The run's mesh, or all devices along its data axis where they are not the run's."""
    try:
        return make_mesh(config)
    except UserError:
        return make_mesh(MeshConfig())
