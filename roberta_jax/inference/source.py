"""Where a model lies: a workdir, or a folder of another system."""

import pathlib
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from roberta_jax.config import DataConfig, PretrainConfig
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.data.tokenizer_folder import load_tokenizer
from roberta_jax.encoder.model import Params
from roberta_jax.errors import UserError
from roberta_jax.interop.fairseq import is_fairseq_folder
from roberta_jax.interop.huggingface import is_huggingface_folder
from roberta_jax.interop.import_model import read_model, what_is_wrong
from roberta_jax.interop.transformers_config import encoder_config, read_config_json
from roberta_jax.parallel.tables import spec_of
from roberta_jax.tasks.finetuned_folder import check_not_finetuned
from roberta_jax.train.restore import load_run, load_run_tokenizer
from roberta_jax.train.workdir import CONFIG_FILE, TOKENIZER_FOLDER, read_config


def open_source(
    folder: pathlib.Path, mesh: Mesh, *, step: int = -1
) -> tuple[PretrainConfig, Params, Tokenizer, int]:
    """The config, the weights on the mesh, the tokenizer and the step of a model.

    Args:
      folder: a workdir, or a Hugging Face or fairseq folder (whose step is 0).
      mesh: where the weights are placed.
      step: which checkpoint of a workdir; -1 for the newest.

    Raises:
      UserError: it is neither, or incomplete or damaged, or has no such step.
    """
    if not _is_foreign(folder):
        config, params, chosen = load_run(folder, mesh, step=step)
        return config, params, load_run_tokenizer(folder, config), chosen
    if step != -1:
        raise UserError(f"{folder} is no workdir and has no steps; leave step {step} out.")

    def put(path: str, array: np.ndarray) -> Any:
        return jax.device_put(array, NamedSharding(mesh, spec_of(path)))

    foreign = read_model(folder, put=put)
    data = DataConfig(tokenizer_fingerprint=foreign.tokenizer.fingerprint)
    config = PretrainConfig(data=data, encoder=foreign.config)
    return config, foreign.params, foreign.tokenizer, 0


def source_config(folder: pathlib.Path) -> PretrainConfig:
    """The config of a model, without its weights; raises as `open_source`."""
    if not _is_foreign(folder):
        return read_config(folder)
    if is_huggingface_folder(folder):
        encoder = encoder_config(read_config_json(folder), folder)
        tokenizer = load_tokenizer(folder)
    else:
        foreign = read_model(folder)  # Its arrays say how large it is.
        encoder, tokenizer = foreign.config, foreign.tokenizer
    data = DataConfig(tokenizer_fingerprint=tokenizer.fingerprint)
    return PretrainConfig(data=data, encoder=encoder)


def tokenizer_folder(folder: pathlib.Path) -> pathlib.Path:
    """Where the tokenizer of a model lies."""
    return folder if _is_foreign(folder) else folder / TOKENIZER_FOLDER


def _is_foreign(folder: pathlib.Path) -> bool:
    """Whether another system made the model; UserError if there is none."""
    if is_huggingface_folder(folder) or is_fairseq_folder(folder):
        return True
    if not (folder / CONFIG_FILE).is_file():
        check_not_finetuned(folder)
        raise UserError(
            f"{folder} {what_is_wrong(folder)}. Give the workdir of a run, or a Hugging Face or "
            "fairseq folder."
        )
    return False
