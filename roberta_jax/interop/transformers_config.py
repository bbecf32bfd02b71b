"""`config.json` of transformers ↔ `EncoderConfig`."""

import json
import pathlib
from typing import Any

from roberta_jax.config import EncoderConfig
from roberta_jax.encoder.task_model import TaskHead
from roberta_jax.errors import UserError
from roberta_jax.interop.names import FAMILIES, PRETRAINING, class_name, has_next_sentence

CONFIG_NAME = "config.json"
TASKS_WITH_LABELS = ("classification", "tokens")  # Those whose outputs are classes.
# What these architectures may be configured to, and what is supported of it; the first is the
# default of transformers where the file says nothing.
_SUPPORTED = {
    "hidden_act": ("gelu",),
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
}
# Of RobertaConfig and of BertConfig, where the file says nothing.
_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
}
_COUNTS = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
    *("intermediate_size", "max_position_embeddings", "type_vocab_size", "pad_token_id"),
)


def read_config_json(folder: pathlib.Path) -> dict[str, Any]:
    """The content of `config.json`, without nulls: they stand where nothing was chosen.

    Raises:
      UserError: the folder is no model of transformers, or the architecture is not supported.
    """
    path = folder / CONFIG_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{folder} is no Hugging Face model: {path} cannot be read ({error.strerror}). Give a "
            "folder with config.json, model.safetensors and the tokenizer's files."
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}). Copy it again.") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is damaged: it holds no JSON object. Copy it again.")
    values = {name: value for name, value in values.items() if value is not None}
    kind = values.get("model_type")
    if kind is None:
        raise UserError(
            f"{path} does not say of which type the model is. If it is one of those that are "
            f'supported, {", ".join(FAMILIES)}, write its name there as "model_type".'
        )
    if kind not in FAMILIES:
        raise UserError(
            f"The model in {folder} is of the type {kind!r}, which is not supported. Supported are "
            f"{', '.join(FAMILIES)}."
        )
    for name, supported in _SUPPORTED.items():
        if values.get(name, supported[0]) not in supported:
            raise UserError(
                f"The model in {folder} has {name}={values[name]!r}; supported is "
                f"{' or '.join(map(repr, supported))}."
            )
    return values


def encoder_config(values: dict[str, Any], folder: pathlib.Path) -> EncoderConfig:
    """The encoder that `config.json` describes; computes in float32.

    It has a next-sentence head if the file is of a model with one.
    """
    is_bert = values["model_type"] == "bert"
    known = {"pad_token_id": 0 if is_bert else 1, **_DEFAULTS, **values}
    for name in _COUNTS:
        if type(known.get(name)) is not int:
            said = f"is {known[name]!r}" if name in known else "is missing"
            raise UserError(
                f"{folder / CONFIG_NAME} cannot be used: {name} {said}; it must be a whole number."
            )
    pad_id = known["pad_token_id"]
    offset = 0 if is_bert else pad_id + 1
    try:
        config = EncoderConfig(
            vocab_size=known["vocab_size"],
            num_layers=known["num_hidden_layers"],
            hidden_size=known["hidden_size"],
            num_heads=known["num_attention_heads"],
            mlp_size=known["intermediate_size"],
            max_positions=known["max_position_embeddings"] - offset,
            position_offset=offset,
            pad_id=pad_id,
            num_token_types=known["type_vocab_size"],
            next_sentence_head=_has_next_sentence_head(values),
            embedding_dropout_rate=float(known["hidden_dropout_prob"]),
            dropout_rate=float(known["hidden_dropout_prob"]),
            attention_dropout_rate=float(known["attention_probs_dropout_prob"]),
            layer_norm_epsilon=float(known["layer_norm_eps"]),
            initializer_range=float(known["initializer_range"]),
            compute_dtype="float32",
        )
        config.validate()
    except (TypeError, ValueError) as error:
        raise UserError(f"{folder / CONFIG_NAME} cannot be used: {error}") from error
    return config


def _has_next_sentence_head(values: dict[str, Any]) -> bool:
    architectures, family = values.get("architectures"), values["model_type"]
    return (
        has_next_sentence(family)
        and isinstance(architectures, list)
        and class_name(family, PRETRAINING) in architectures
    )


def unnamed_labels(count: int) -> tuple[str, ...]:
    """What transformers calls classes that nobody gave a name."""
    return tuple(f"LABEL_{number}" for number in range(count))


def class_labels(values: dict[str, Any], folder: pathlib.Path) -> tuple[str, ...]:
    """The names of the classes of `config.json`, by number; one name for a regression.

    Raises:
      UserError: they are not numbered from 0, or two have the same name.
    """
    names = values.get("id2label")
    if names is None:
        return unnamed_labels(2)  # The default, which transformers leaves out of the file.
    try:
        by_number = {int(number): str(name) for number, name in names.items()}
        labels = tuple(by_number[number] for number in range(len(by_number)))
    except (AttributeError, KeyError, ValueError) as error:
        raise UserError(
            f"{folder / CONFIG_NAME} cannot be used: id2label is {names!r}; it must give names to "
            "the numbers 0, 1, 2 and so on."
        ) from error
    if not labels or len(set(labels)) < len(labels):
        raise UserError(
            f"{folder / CONFIG_NAME} cannot be used: id2label is {names!r}; there must be at least "
            "one name, and no name twice."
        )
    return labels


def config_json(
    config: EncoderConfig,
    family: str,
    *,
    dtype: str,
    bos_id: int,
    eos_id: int,
    head: TaskHead | None = None,
    labels: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The content of `config.json` for an encoder.

    It has one dropout rate for the embedding and the sublayers, here that of the sublayers, and
    none for the activation.

    Args:
      config: the encoder.
      family: one of FAMILIES.
      dtype: of the stored weights, "float32" or "bfloat16".
      bos_id: id of `<s>`.
      eos_id: id of `</s>`.
      head: of a fine-tuned model; None for the masked language model.
      labels: names of the classes of `head`, by number.
    """
    next_sentence = config.next_sentence_head and has_next_sentence(family)
    task = head.task if head else PRETRAINING if next_sentence else "masked_lm"
    values: dict[str, Any] = {
        "add_cross_attention": False,
        "architectures": [class_name(family, task)],
        "attention_probs_dropout_prob": config.attention_dropout_rate,
        # To BERT, [CLS] and [SEP] are not where a text begins and ends.
        "bos_token_id": None if family == "bert" else bos_id,
        "classifier_dropout": head.dropout_rate if head else None,
        "dtype": dtype,
        "eos_token_id": None if family == "bert" else eos_id,
        "hidden_act": "gelu",
        "hidden_dropout_prob": config.dropout_rate,
        "hidden_size": config.hidden_size,
        "initializer_range": config.initializer_range,
        "intermediate_size": config.mlp_size,
        "is_decoder": False,
        "layer_norm_eps": config.layer_norm_epsilon,
        "max_position_embeddings": config.max_positions + config.position_offset,
        "model_type": family,
        "num_attention_heads": config.num_heads,
        "num_hidden_layers": config.num_layers,
        "pad_token_id": config.pad_id,
        "tie_word_embeddings": True,
        "type_vocab_size": max(config.num_token_types, 1),
        "use_cache": True,
        "vocab_size": config.vocab_size,
    }
    if head and head.task == "classification":
        # What transformers' loss would be; it knows a regression by its one output too.
        values["problem_type"] = (
            "regression" if head.num_outputs == 1 else "single_label_classification"
        )
    if head and head.task in TASKS_WITH_LABELS:
        names = labels or unnamed_labels(head.num_outputs)
        values["id2label"] = {str(number): name for number, name in enumerate(names)}
        values["label2id"] = {name: number for number, name in enumerate(names)}
    return values
