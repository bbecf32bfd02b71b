"""A folder of transformers in, a folder that transformers opens out."""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from roberta_jax.config import EncoderConfig
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.data.tokenizer_folder import load_tokenizer
from roberta_jax.encoder.model import Params
from roberta_jax.encoder.task_model import TaskHead
from roberta_jax.errors import UserError
from roberta_jax.interop.tensor_files import SINGLE_NAME, open_tensors, write_tensors
from roberta_jax.interop.transformers_config import (
    CONFIG_NAME,
    config_json,
    encoder_config,
    read_config_json,
)
from roberta_jax.interop.weights import (
    drop_empty_token_types,
    read_weights,
    tensor_shapes,
    tensors_of,
)

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForeignModel:
    """A masked language model that another system made."""

    config: EncoderConfig
    params: Params  # Float32.
    tokenizer: Tokenizer
    left_out: list[str]  # Names of tensors that were not taken over.


def is_huggingface_folder(folder: pathlib.Path) -> bool:
    """Whether `config.json` of the folder is one of transformers."""
    try:
        values = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and ("model_type" in values or "architectures" in values)


def read_huggingface(
    folder: pathlib.Path, *, put: Callable[[str, np.ndarray], Any] = lambda path, array: array
) -> ForeignModel:
    """Reads a masked language model.

    Args:
      folder: config.json, safetensors, the tokenizer's files.
      put: places a weight, given its path, as soon as it is read.

    Raises:
      UserError: the folder is incomplete or damaged, or its model is not supported.
    """
    values = read_config_json(folder)
    config = encoder_config(values, folder)
    tokenizer = load_tokenizer(folder)
    check_tokenizer(config, tokenizer, str(folder))
    params, left_out = read_weights(
        open_tensors(folder), config, values["model_type"], str(folder), put=put
    )
    drop_empty_token_types(config, params)
    return ForeignModel(config=config, params=params, tokenizer=tokenizer, left_out=left_out)


def check_tokenizer(config: EncoderConfig, tokenizer: Tokenizer, place: str) -> None:
    """Raises UserError for a tokenizer that gives ids which the model does not have."""
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"The tokenizer in {place} has {tokenizer.vocab_size:,} entries, and the model only "
            f"{config.vocab_size:,}. They do not belong together."
        )
    if tokenizer.pad_id != config.pad_id:
        raise UserError(
            f"The tokenizer in {place} pads with id {tokenizer.pad_id}, and the model with "
            f"{config.pad_id}. They do not belong together."
        )


def family_of(config: EncoderConfig, tokenizer: Tokenizer) -> str:
    """Which architecture of transformers computes what this encoder computes."""
    if config.position_offset == 0:
        return "bert"
    return "roberta" if tokenizer.kind == "byte_bpe" else "xlm-roberta"


def write_huggingface(
    folder: pathlib.Path,
    params: Params,
    config: EncoderConfig,
    tokenizer: Tokenizer,
    *,
    dtype: str = "float32",
    head: TaskHead | None = None,
    labels: tuple[str, ...] = (),
) -> None:
    """Writes config.json, model.safetensors and the tokenizer's files into a folder.

    Args:
      folder: exists.
      params: weights on any mesh; they leave the devices one at a time.
      config: their encoder.
      tokenizer: their vocabulary.
      dtype: "float32" or "bfloat16", of the stored weights.
      head: of a fine-tuned model; None for the masked language model.
      labels: names of the classes of `head`.
    """
    family = family_of(config, tokenizer)
    if family != "bert" and config.position_offset != config.pad_id + 1:
        raise UserError(
            f"encoder.position_offset is {config.position_offset}; transformers has no "
            f"architecture for it. It must be pad_id + 1 = {config.pad_id + 1} (RoBERTa) or 0 "
            "(BERT)."
        )
    values = config_json(
        config,
        family,
        dtype=dtype,
        special_ids={"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id},
        head=head,
        labels=labels,
    )
    tokenizer.save(folder)
    text = json.dumps(values, indent=2, sort_keys=True) + "\n"
    (folder / CONFIG_NAME).write_text(text, encoding="utf-8")
    write_tensors(
        folder / SINGLE_NAME,
        tensor_shapes(config, family, head=head),
        tensors_of(params, config, family, head=head),
        dtype=DTYPES[dtype],
    )
