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
from roberta_jax.encoder.task_model import TASKS, TaskHead
from roberta_jax.errors import UserError
from roberta_jax.interop.names import class_name, family_and_task, has_next_sentence
from roberta_jax.interop.tensor_files import SINGLE_NAME, open_tensors, write_tensors
from roberta_jax.interop.transformers_config import (
    CONFIG_NAME,
    TASKS_WITH_LABELS,
    class_labels,
    config_json,
    encoder_config,
    read_config_json,
)
from roberta_jax.interop.weights import (
    drop_empty_token_types,
    read_encoder_weights,
    read_weights,
    tensor_shapes,
    tensors_of,
)

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
# What a head for classification may be there for.
_PROBLEM_TYPES = ("single_label_classification", "regression")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForeignModel:
    """A masked language model that another system made."""

    family: str  # One of names.FAMILIES.
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
    return ForeignModel(
        family=values["model_type"],
        config=config,
        params=params,
        tokenizer=tokenizer,
        left_out=left_out,
    )


def read_huggingface_encoder(
    folder: pathlib.Path, *, put: Callable[[str, np.ndarray], Any] = lambda path, array: array
) -> ForeignModel:
    """Reads the encoder of a model of any class: alone, or below the head of any task.

    Its `params` are as `weights.read_encoder_weights` has them. Arguments and errors are those of
    `read_huggingface`.
    """
    values = read_config_json(folder)
    config = dataclasses.replace(encoder_config(values, folder), next_sentence_head=False)
    tokenizer = load_tokenizer(folder)
    check_tokenizer(config, tokenizer, str(folder))
    family = values["model_type"]
    params = read_encoder_weights(open_tensors(folder), config, family, str(folder), put=put)
    drop_empty_token_types(config, params)
    return ForeignModel(
        family=family, config=config, params=params, tokenizer=tokenizer, left_out=[]
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForeignTaskModel(ForeignModel):
    """An encoder with the head of a task that another system made.

    Attributes:
      head: which; without dropout.
      labels: names of the classes by number, of classification and tokens; one of a regression,
        whose head is that of a classification with one output.
    """

    head: TaskHead
    labels: tuple[str, ...]


def read_huggingface_task(
    folder: pathlib.Path, *, put: Callable[[str, np.ndarray], Any] = lambda path, array: array
) -> ForeignTaskModel:
    """Reads a model of one of transformers' classes for tasks, such as …ForQuestionAnswering.

    Args:
      folder: config.json, safetensors, the tokenizer's files.
      put: places a weight, given its path, as soon as it is read.

    Raises:
      UserError: as for `read_huggingface`; also a model without the head of a task, and one that
        gives a row several classes at once.
    """
    values = read_config_json(folder)
    family = values["model_type"]
    task = _task_of(values, folder)
    labels = class_labels(values, folder) if task in TASKS_WITH_LABELS else ()
    problem = values.get("problem_type", _PROBLEM_TYPES[0])
    if task == "classification" and (
        problem not in _PROBLEM_TYPES or (problem == "regression" and len(labels) > 1)
    ):
        raise UserError(
            f"The model in {folder} has problem_type={problem!r} with {len(labels)} outputs, which "
            "is not supported: here a row has one class, or is given one number."
        )
    config = encoder_config(values, folder)
    tokenizer = load_tokenizer(folder)
    check_tokenizer(config, tokenizer, str(folder))
    num_outputs = {"choice": 1, "span": 2}.get(task, len(labels))
    head = TaskHead(task=task, num_outputs=num_outputs, dropout_rate=0.0)
    params, left_out = read_weights(
        open_tensors(folder), config, family, str(folder), head=head, put=put
    )
    drop_empty_token_types(config, params)
    return ForeignTaskModel(
        family=family,
        config=config,
        params=params,
        tokenizer=tokenizer,
        left_out=left_out,
        head=head,
        labels=labels,
    )


def _task_of(values: dict[str, Any], folder: pathlib.Path) -> str:
    """One of `encoder.task_model.TASKS`, by the class that `config.json` names."""
    named = values.get("architectures")
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    found = next((pair for pair in map(family_and_task, names) if pair), None)
    if found is None or found[0] != values["model_type"] or found[1] not in TASKS:
        classes = ", ".join(class_name(values["model_type"], task) for task in TASKS)
        raise UserError(
            f"The model in {folder} has no head for a task: its config.json says architectures: "
            f"{names}. Supported are {classes}. Another model has to be fine-tuned first: "
            f"`roberta-jax finetune --init_from={folder}`."
        )
    return found[1]


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
    return "xlm-roberta" if tokenizer.kind == "unigram" else "roberta"


def write_huggingface(
    folder: pathlib.Path,
    params: Params,
    config: EncoderConfig,
    tokenizer: Tokenizer,
    *,
    family: str = "",
    dtype: str = "float32",
    head: TaskHead | None = None,
    labels: tuple[str, ...] = (),
) -> None:
    """Writes config.json, model.safetensors and the tokenizer's files into a folder.

    A next-sentence head goes with a BERT, as BertForPreTraining; transformers has no class for a
    RoBERTa with one, so there it is left out.

    Args:
      folder: exists.
      params: weights on any mesh; they leave the devices one at a time.
      config: their encoder.
      tokenizer: their vocabulary.
      family: one of names.FAMILIES; "" for that of `family_of`.
      dtype: "float32" or "bfloat16", of the stored weights.
      head: of a fine-tuned model; None for the masked language model.
      labels: names of the classes of `head`; none, or as many as there are.

    Raises:
      UserError: transformers has no architecture for the encoder, or an argument is unusable.
    """
    family = family or family_of(config, tokenizer)
    _check_arguments(dtype, head, labels)
    offset = 0 if family == "bert" else config.pad_id + 1
    if config.position_offset != offset:
        raise UserError(
            f"encoder.position_offset is {config.position_offset}, and transformers computes "
            f"{family} with {offset} only. It must be pad_id + 1 = {config.pad_id + 1} (RoBERTa) "
            "or 0 (BERT)."
        )
    if config.next_sentence_head and not has_next_sentence(family):
        config = dataclasses.replace(config, next_sentence_head=False)
        params = {name: branch for name, branch in params.items() if name != "next_sentence_head"}
    values = config_json(
        config,
        family,
        dtype=dtype,
        bos_id=tokenizer.bos_id,
        eos_id=tokenizer.eos_id,
        head=head,
        labels=labels,
    )
    tokenizer.save(folder)
    _limit_length(folder / "tokenizer_config.json", config.max_positions)
    text = json.dumps(values, indent=2, sort_keys=True) + "\n"
    (folder / CONFIG_NAME).write_text(text, encoding="utf-8")
    write_tensors(
        folder / SINGLE_NAME,
        tensor_shapes(config, family, head=head),
        tensors_of(params, config, family, head=head),
        dtype=DTYPES[dtype],
    )


def _check_arguments(dtype: str, head: TaskHead | None, labels: tuple[str, ...]) -> None:
    if dtype not in DTYPES:
        raise UserError(f"dtype is {dtype!r}; it must be one of {', '.join(DTYPES)}.")
    wanted = head.num_outputs if head and head.task in TASKS_WITH_LABELS else 0
    if labels and (len(labels) != wanted or len(set(labels)) != wanted):
        raise UserError(
            f"labels are {', '.join(labels)}; there must be {wanted} different ones, a name for "
            "each class of the head."
        )


def _limit_length(path: pathlib.Path, max_positions: int) -> None:
    """Tells transformers how many tokens the model takes."""
    settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    settings["model_max_length"] = max_positions
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
