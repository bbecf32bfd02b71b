"""Tensors under transformers' names ↔ weights under our paths."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from roberta_jax.config import EncoderConfig
from roberta_jax.encoder.model import Params, abstract_params
from roberta_jax.encoder.task_model import TaskHead, abstract_task_params
from roberta_jax.errors import UserError
from roberta_jax.interop.names import (
    LEFT_OUT_PREFIXES,
    TIED_NAMES,
    TensorName,
    base_of,
    present_name,
    tensor_name,
)
from roberta_jax.interop.tensor_files import Tensors
from roberta_jax.parallel.tables import path_name

# Weights with one row for each entry of the vocabulary, padded at the end.
_VOCABULARY_PATHS = ("embedding/token/embedding", "head/bias")
TOKEN_TYPE_PATH = "embedding/token_type/embedding"
# The branches of the weights that are the encoder; the others are heads.
ENCODER_BRANCHES = ("embedding", "layers")
_POOLER_PATH = "next_sentence_head/dense"  # BERT's pooler.


def weight_shapes(config: EncoderConfig, head: TaskHead | None = None) -> Params:
    """The shapes of the weights of an encoder with this head; None: masked language model."""
    return abstract_task_params(config, head) if head else abstract_params(config)


def read_weights(
    tensors: Tensors,
    config: EncoderConfig,
    family: str,
    place: str,
    *,
    head: TaskHead | None = None,
    put: Callable[[str, np.ndarray], Any] = lambda path, array: array,
) -> tuple[Params, list[str]]:
    """The weights, one after the other.

    Args:
      tensors: those of the file.
      config: the encoder that they belong to.
      family: whose names they have, one of `names.FAMILIES`.
      place: what error messages call the file.
      head: of a fine-tuned model; None for the masked language model.
      put: takes the path and the float32 array of a weight; what it returns is kept in the tree.

    Returns:
      The nested dict, and the names of tensors that it has no place for.

    Raises:
      UserError: a tensor is missing, one is there that nothing is known of, a shape is not the
        config's, a type is not one of floating-point numbers, or a tied copy is not a copy.
    """
    base = base_of(family)
    tensors = {present_name(name): read for name, read in tensors.items()}
    if head is None:
        tensors = _without_copies(tensors, TIED_NAMES[base], place)
    shapes = weight_shapes(config, head)
    paths = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(shapes)]
    places = {path: tensor_name(path, family, head.task if head else "masked_lm") for path in paths}
    left_out = _check_names(
        tensors, _all_names(places, config), LEFT_OUT_PREFIXES[base], place, head
    )
    return _read_tree(tensors, shapes, places, config, place, put), left_out


def read_encoder_weights(
    tensors: Tensors,
    config: EncoderConfig,
    family: str,
    place: str,
    *,
    put: Callable[[str, np.ndarray], Any] = lambda path, array: array,
) -> Params:
    """The encoder's weights, whatever head the file has beside them; see `read_weights`.

    Returns:
      The branches "embedding" and "layers"; of a BERT that has one also "pooler", the kernel and
      the bias of its dense layer. RoBERTa's pooler is none that pretraining has trained.
    """
    base = base_of(family)
    tensors = {present_name(name): read for name, read in tensors.items()}
    if not any(name.startswith(f"{base}.") for name in tensors):
        # transformers' class of the encoder alone, such as RobertaModel.
        tensors = {f"{base}.{name}": read for name, read in tensors.items()}
    tensors = _without_copies(tensors, TIED_NAMES[base], place)
    whole = weight_shapes(dataclasses.replace(config, next_sentence_head=True))
    shapes = {name: whole[name] for name in ENCODER_BRANCHES}
    if base == "bert" and tensor_name(f"{_POOLER_PATH}/kernel", family).name in tensors:
        shapes["pooler"] = whole["next_sentence_head"]["dense"]
    paths = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(shapes)]
    places = {
        path: tensor_name(path.replace("pooler/", f"{_POOLER_PATH}/"), family) for path in paths
    }
    missing = [name for name in _all_names(places, config) if name not in tensors]
    if missing:
        raise UserError(
            f"The tensors of {place} are not those of its config: {len(missing):,} of the encoder "
            f"are missing, {_some(missing)}. No weight is made up. Copy the folder again."
        )
    return _read_tree(tensors, shapes, places, config, place, put)


def _read_tree(
    tensors: Tensors,
    shapes: Params,
    places: dict[str, TensorName],
    config: EncoderConfig,
    place: str,
    put: Callable[[str, np.ndarray], Any],
) -> Params:
    """Every weight of `shapes`, from the tensors that `places` names by path."""

    def read(path: Any, shape: jax.ShapeDtypeStruct) -> Any:
        name = path_name(path)
        return put(name, _read_weight(tensors, name, places[name], shape.shape, config, place))

    return jax.tree_util.tree_map_with_path(read, shapes)


def _all_names(places: dict[str, TensorName], config: EncoderConfig) -> list[str]:
    return [
        tensor.name.format(layer=layer)
        for tensor in places.values()
        for layer in range(config.num_layers if tensor.stacked else 1)
    ]


def _check_names(
    tensors: Tensors,
    wanted: list[str],
    left_out: tuple[str, ...],
    place: str,
    head: TaskHead | None,
) -> list[str]:
    missing = [name for name in wanted if name not in tensors]
    extra = sorted(set(tensors) - set(wanted))
    unknown = [name for name in extra if not name.startswith(left_out)]
    if missing or unknown:
        kind = f"the head for {head.task}" if head else "the head of a masked language model"
        raise UserError(
            f"The tensors of {place} are not those of its config: "
            + "; ".join(
                f"{len(names):,} {what}, {_some(names)}"
                for what, names in (("missing", missing), ("unknown", unknown))
                if names
            )
            + f". No weight is made up. A model with {kind}, and with no other, is needed; an "
            "encoder alone has none."
        )
    return extra


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def _without_copies(tensors: Tensors, tied: dict[str, str], place: str) -> Tensors:
    """Every tied tensor once, under its first name."""
    once = {tied[name]: read for name, read in tensors.items() if name in tied}
    once |= {name: read for name, read in tensors.items() if name not in tied}
    for copy, original in tied.items():
        if copy in tensors and original in tensors:
            left, right = tensors[copy](), tensors[original]()
            if not np.array_equal(left, right):
                raise UserError(
                    f"In {place}, {copy} is not a copy of {original}. Only models whose head is "
                    "tied to the token embedding are supported."
                )
    return once


def _read_weight(
    tensors: Tensors,
    path: str,
    tensor: TensorName,
    shape: tuple[int, ...],
    config: EncoderConfig,
    place: str,
) -> np.ndarray:
    weight = np.zeros(shape, np.float32)  # Rows that only pad the vocabulary stay 0.
    for layer in range(config.num_layers if tensor.stacked else 1):
        target = weight[layer] if tensor.stacked else weight
        if path in _VOCABULARY_PATHS:
            target = target[: config.vocab_size]
        name = tensor.name.format(layer=layer)
        array = tensors[name]()
        target = target.T if tensor.transposed else target
        if array.shape != target.shape:
            raise UserError(
                f"The tensor {name} of {place} has the shape {list(array.shape)}, and its config "
                f"asks for {list(target.shape)}."
            )
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise UserError(
                f"The tensor {name} of {place} is of the type {array.dtype}. Only weights in "
                "floating point are supported; quantized ones are not."
            )
        target[...] = array
    return weight


def drop_empty_token_types(config: EncoderConfig, params: Params) -> None:
    """Takes away a table of one token type that adds nothing, in place.

    RoBERTa has no token types; transformers gives it a table of one row, which is 0 in the
    published models.
    """
    table = params["embedding"].get("token_type")
    if config.num_token_types == 1 and not np.asarray(table["embedding"]).any():
        del params["embedding"]["token_type"]
        config.num_token_types = 0


def tensor_shapes(
    config: EncoderConfig, family: str, *, head: TaskHead | None = None
) -> dict[str, tuple[int, ...]]:
    """Name → shape of every tensor that `tensors_of` gives."""
    shapes = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(weight_shapes(config, head)):
        name = path_name(path)
        tensor = tensor_name(name, family, head.task if head else "masked_lm")
        shape = leaf.shape[1:] if tensor.stacked else leaf.shape
        if name in _VOCABULARY_PATHS:
            shape = (config.vocab_size, *shape[1:])
        shape = shape[::-1] if tensor.transposed else shape
        for layer in range(config.num_layers if tensor.stacked else 1):
            shapes[tensor.name.format(layer=layer)] = shape
    if not config.num_token_types:
        shapes[tensor_name(TOKEN_TYPE_PATH, family).name] = (1, config.hidden_size)
    return shapes


def tensors_of(
    params: Params, config: EncoderConfig, family: str, *, head: TaskHead | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """(name, float32 array) of every tensor; one weight at a time leaves the devices."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = path_name(path)
        tensor = tensor_name(name, family, head.task if head else "masked_lm")
        for layer in range(config.num_layers if tensor.stacked else 1):
            array = np.asarray(jax.device_get(leaf[layer] if tensor.stacked else leaf))
            if name in _VOCABULARY_PATHS:
                array = array[: config.vocab_size]
            array = array.T if tensor.transposed else array
            yield tensor.name.format(layer=layer), array
    if not config.num_token_types:
        yield (
            tensor_name(TOKEN_TYPE_PATH, family).name,
            np.zeros((1, config.hidden_size), np.float32),
        )
