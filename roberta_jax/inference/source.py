"""Where a model lies: a workdir, or a folder of another system."""

import pathlib
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from roberta_jax.config import DataConfig, PretrainConfig
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.encoder.model import Params
from roberta_jax.interop.fairseq import is_fairseq_folder
from roberta_jax.interop.huggingface import ForeignModel, is_huggingface_folder
from roberta_jax.interop.import_model import read_model
from roberta_jax.parallel.tables import spec_of
from roberta_jax.train.restore import load_run, load_run_tokenizer
from roberta_jax.train.workdir import TOKENIZER_FOLDER, read_config


def open_source(
    folder: pathlib.Path, mesh: Mesh, *, step: int = -1
) -> tuple[PretrainConfig, Params, Tokenizer, int]:
    """The config, the weights on the mesh, the tokenizer and the step of a model.

    Args:
      folder: a workdir, or a Hugging Face or fairseq folder (whose step is 0).
      mesh: where the weights are placed.
      step: which checkpoint of a workdir; -1 for the newest.

    Raises:
      UserError: it is neither, or incomplete or damaged.
    """
    if _is_foreign(folder):

        def put(path: str, array: np.ndarray) -> Any:
            return jax.device_put(array, NamedSharding(mesh, spec_of(path)))

        foreign = read_model(folder, put=put)
        return _config_of(foreign), foreign.params, foreign.tokenizer, 0
    config, params, chosen = load_run(folder, mesh, step=step)
    return config, params, load_run_tokenizer(folder, config), chosen


def source_config(folder: pathlib.Path) -> PretrainConfig:
    """The config of a model; raises as `open_source`."""
    if _is_foreign(folder):
        return _config_of(read_model(folder))
    return read_config(folder)


def tokenizer_folder(folder: pathlib.Path) -> pathlib.Path:
    """Where the tokenizer of a model lies."""
    return folder if _is_foreign(folder) else folder / TOKENIZER_FOLDER


def _is_foreign(folder: pathlib.Path) -> bool:
    return is_huggingface_folder(folder) or is_fairseq_folder(folder)


def _config_of(foreign: ForeignModel) -> PretrainConfig:
    data = DataConfig(tokenizer_fingerprint=foreign.tokenizer.fingerprint)
    return PretrainConfig(data=data, encoder=foreign.config)
