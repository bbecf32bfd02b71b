"""Tensors under transformers' names and weights under our paths."""

import pathlib

import jax
import ml_dtypes
import numpy as np
import pytest

from roberta_jax.encoder.model import abstract_params
from roberta_jax.encoder.task_model import TaskHead
from roberta_jax.errors import UserError
from roberta_jax.interop import weights as module
from roberta_jax.interop.transformers_config import encoder_config
from roberta_jax.interop.weights import (
    drop_empty_token_types,
    read_weights,
    tensor_shapes,
    tensors_of,
)
from tests.interop import foreign

WORDS = "roberta.embeddings.word_embeddings.weight"
TYPES = "roberta.embeddings.token_type_embeddings.weight"


@pytest.fixture(autouse=True, scope="module")
def shapes_once():
    """The shapes of a model take a tenth of a second, and are asked for hundreds of times."""
    known, original = {}, module.weight_shapes

    def weight_shapes(config, head=None):
        key = repr((config, head))
        if key not in known:
            known[key] = original(config, head)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "weight_shapes", weight_shapes)
        yield


def random_params(config, head):
    generator = np.random.Generator(np.random.Philox(key=1))
    params = jax.tree.map(
        lambda leaf: generator.normal(size=leaf.shape).astype(np.float32),
        module.weight_shapes(config, head),
    )
    params["embedding"]["token"]["embedding"][config.vocab_size :] = 0
    return params


def make(family="roberta", **changes):
    """(config, tensors) of a tiny model."""
    values = foreign.config_values(family, **changes)
    return encoder_config(values, pathlib.Path("model")), foreign.make_tensors(values)


def read(config, tensors, family="roberta", **options):
    readers = {name: (lambda array=array: array) for name, array in tensors.items()}
    return read_weights(readers, config, family, "the file", **options)


def assert_refused(config, tensors, *messages, family="roberta"):
    with pytest.raises(UserError) as error:
        read(config, tensors, family)
    for message in ("the file", *messages):
        assert message in str(error.value)


# ---- What becomes of every tensor ---------------------------------------------------------------


@pytest.mark.parametrize("family", foreign.FAMILIES)
def test_the_weights_are_those_that_a_new_model_has(family):
    config, tensors = make(family)
    params, left_out = read(config, tensors, family)
    new = abstract_params(config)
    assert jax.tree.structure(params) == jax.tree.structure(new)
    for found, wanted in zip(jax.tree.leaves(params), jax.tree.leaves(new), strict=True):
        assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    assert left_out == []


def test_where_tensors_go():
    config, tensors = make()
    params, _ = read(config, tensors)
    layer = "roberta.encoder.layer.2"
    for found, name in (
        (params["embedding"]["norm"]["scale"], "roberta.embeddings.LayerNorm.weight"),
        (params["layers"]["attention"]["key"]["kernel"][2].T, f"{layer}.attention.self.key.weight"),
        (params["layers"]["attention"]["out"]["bias"][2], f"{layer}.attention.output.dense.bias"),
        (params["layers"]["mlp"]["up"]["kernel"][2].T, f"{layer}.intermediate.dense.weight"),
        (params["layers"]["mlp"]["down"]["kernel"][2].T, f"{layer}.output.dense.weight"),
        (params["layers"]["mlp_norm"]["bias"][2], f"{layer}.output.LayerNorm.bias"),
        (params["head"]["dense"]["kernel"].T, "lm_head.dense.weight"),
        (params["head"]["norm"]["scale"], "lm_head.layer_norm.weight"),
    ):
        np.testing.assert_array_equal(found, tensors[name])


@pytest.mark.parametrize("family", foreign.FAMILIES)
def test_in_and_out_again_gives_every_tensor_bit_for_bit(family):
    config, tensors = make(family)
    params, _ = read(config, tensors, family)
    found = dict(tensors_of(params, config, family))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].tobytes() == tensor.tobytes() and found[name].dtype == np.float32
    assert {name: tensor.shape for name, tensor in found.items()} == tensor_shapes(config, family)


@pytest.mark.parametrize("family", foreign.FAMILIES)
@pytest.mark.parametrize(
    ("task", "num_outputs"), [("classification", 3), ("choice", 1), ("span", 2), ("tokens", 4)]
)
def test_heads_go_out_and_come_in(family, task, num_outputs):
    config, _ = make(family)
    head = TaskHead(task=task, num_outputs=num_outputs)
    params = random_params(config, head)
    tensors = dict(tensors_of(params, config, family, head=head))
    shapes = tensor_shapes(config, family, head=head)
    assert {name: tensor.shape for name, tensor in tensors.items()} == shapes
    again, left_out = read(config, tensors, family, head=head)
    assert left_out == []
    jax.tree.map(np.testing.assert_array_equal, again, params)


def test_a_masked_lm_head_beside_the_head_of_a_task_is_refused():
    config, masked = make()
    head = TaskHead(task="span", num_outputs=2)
    params = random_params(config, head)
    tensors = dict(tensors_of(params, config, "roberta", head=head))
    tensors["lm_head.decoder.bias"] = masked["lm_head.bias"]
    with pytest.raises(UserError, match="1 unknown, lm_head.decoder.bias.*the head for span"):
        read(config, tensors, head=head)


def test_a_place_for_every_weight_is_asked_for_as_soon_as_it_is_read():
    config, tensors = make()
    seen = []

    def put(path, array):
        seen.append((path, array.shape, array.dtype))
        return path

    params, _ = read(config, tensors, put=put)
    assert params["layers"]["mlp"]["up"]["kernel"] == "layers/mlp/up/kernel"
    assert ("layers/mlp/up/kernel", (3, 16, 24), np.float32) in seen
    assert len(seen) == len(jax.tree.leaves(params))


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_types_of_stored_weights(dtype):
    config, tensors = make()
    tensors = {name: tensor.astype(dtype) for name, tensor in tensors.items()}
    params, _ = read(config, tensors)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
    found = dict(tensors_of(params, config, "roberta"))
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor.astype(np.float32))


# ---- The vocabulary's padding -------------------------------------------------------------------


@pytest.mark.parametrize("vocab_size", [127, 128, 129])
def test_the_rows_that_pad_the_vocabulary_are_zero_inside_and_not_there_outside(vocab_size):
    config, tensors = make(vocab_size=vocab_size)
    params, _ = read(config, tensors)
    table, bias = params["embedding"]["token"]["embedding"], params["head"]["bias"]
    assert len(table) == len(bias) == (256 if vocab_size > 128 else 128)
    assert not table[vocab_size:].any() and not bias[vocab_size:].any()
    np.testing.assert_array_equal(table[:vocab_size], tensors[WORDS])
    table[vocab_size:], bias[vocab_size:] = 7, 7
    found = dict(tensors_of(params, config, "roberta"))
    np.testing.assert_array_equal(found[WORDS], tensors[WORDS])
    np.testing.assert_array_equal(found["lm_head.bias"], tensors["lm_head.bias"])


# ---- Token types --------------------------------------------------------------------------------


def test_one_token_type_that_is_zero_is_dropped_and_comes_back_as_zero():
    config, tensors = make()
    params, _ = read(config, tensors)
    drop_empty_token_types(config, params)
    assert config.num_token_types == 0 and "token_type" not in params["embedding"]
    found = dict(tensors_of(params, config, "roberta"))
    assert found[TYPES].shape == (1, 16) and not found[TYPES].any()
    assert found[TYPES].dtype == np.float32


def test_one_token_type_that_is_not_zero_stays():
    config, tensors = make()
    tensors[TYPES][0, 3] = 1e-30
    params, _ = read(config, tensors)
    drop_empty_token_types(config, params)
    assert config.num_token_types == 1
    found = dict(tensors_of(params, config, "roberta"))
    np.testing.assert_array_equal(found[TYPES], tensors[TYPES])


@pytest.mark.parametrize("family", foreign.FAMILIES)
def test_two_token_types_stay_even_when_zero(family):
    config, tensors = make(family, type_vocab_size=2)
    name = TYPES.replace("roberta", "bert") if family == "bert" else TYPES
    tensors[name][:] = 0
    params, _ = read(config, tensors, family)
    drop_empty_token_types(config, params)
    assert config.num_token_types == 2
    assert params["embedding"]["token_type"]["embedding"].shape == (2, 16)


# ---- What a file may have beside --------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "extra"),
    [
        ("roberta", ["roberta.embeddings.position_ids", "roberta.pooler.dense.weight"]),
        ("xlm-roberta", ["roberta.pooler.dense.bias"]),
        ("bert", ["bert.embeddings.position_ids", "bert.pooler.dense.bias"]),
        ("bert", ["cls.seq_relationship.bias", "cls.seq_relationship.weight"]),
    ],
)
def test_what_a_masked_language_model_has_no_place_for_is_told(family, extra):
    config, tensors = make(family)
    _, left_out = read(config, {**tensors, **{name: np.arange(3) for name in extra}}, family)
    assert left_out == extra


def test_a_bert_with_both_heads_goes_in_and_out_bit_for_bit():
    config, tensors = make("bert", **foreign.PRETRAINING)
    params, left_out = read(config, tensors, "bert")
    assert left_out == []
    head = params["next_sentence_head"]
    for found, name in (
        (head["dense"]["kernel"].T, "bert.pooler.dense.weight"),
        (head["dense"]["bias"], "bert.pooler.dense.bias"),
        (head["projection"]["kernel"].T, "cls.seq_relationship.weight"),
        (head["projection"]["bias"], "cls.seq_relationship.bias"),
    ):
        np.testing.assert_array_equal(found, tensors[name])
    again = dict(tensors_of(params, config, "bert"))
    assert again.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert again[name].tobytes() == tensor.tobytes()
    for name in [name for name in tensors if "pooler" in name or "seq_rel" in name]:
        others = {other: tensor for other, tensor in tensors.items() if other != name}
        assert_refused(config, others, f"1 missing, {name}.", family="bert")


@pytest.mark.parametrize(
    ("family", "name"),
    [("roberta", "bert.pooler.dense.bias"), ("bert", "roberta.pooler.dense.bias"),
     ("roberta", "cls.predictions.decoder.weight"), ("bert", "lm_head.decoder.bias")],
)  # fmt: skip
def test_what_another_family_has_is_unknown(family, name):
    config, tensors = make(family)
    assert_refused(config, {**tensors, name: np.zeros(3)}, f"1 unknown, {name}.", family=family)


COPIES = [
    ("roberta", "lm_head.decoder.weight", WORDS),
    ("roberta", "lm_head.decoder.bias", "lm_head.bias"),
    ("bert", "cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
    ("bert", "cls.predictions.decoder.bias", "cls.predictions.bias"),
]


@pytest.mark.parametrize(("family", "copy", "original"), COPIES)
def test_a_tied_tensor_may_be_there_under_either_name_or_both(family, copy, original):
    config, tensors = make(family)
    wanted, _ = read(config, tensors, family)
    both = {**tensors, copy: tensors[original]}
    other = {name: tensor for name, tensor in both.items() if name != original}
    for given in (both, other):
        params, left_out = read(config, given, family)
        assert left_out == []
        jax.tree.map(np.testing.assert_array_equal, params, wanted)


@pytest.mark.parametrize(("family", "copy", "original"), COPIES)
def test_a_tied_tensor_that_differs_is_refused(family, copy, original):
    config, tensors = make(family)
    changed = tensors[original].copy()
    changed.flat[5] += 1
    message = f"{copy} is not a copy of {original}. Only models whose head is tied"
    assert_refused(config, {**tensors, copy: changed}, message, family=family)
    assert_refused(config, {**tensors, copy: changed[:-1]}, message, family=family)


def test_old_names_of_bert_are_understood():
    config, tensors = make("bert")
    wanted, _ = read(config, tensors, "bert")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in tensors.items()
    }
    assert len(set(old) - set(tensors)) == 2 * (1 + 2 * 3 + 1)
    params, _ = read(config, old, "bert")
    jax.tree.map(np.testing.assert_array_equal, params, wanted)


# ---- What is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("family", foreign.FAMILIES)
def test_every_missing_tensor_is_named(family):
    config, tensors = make(family)
    for name in tensors:
        others = {other: tensor for other, tensor in tensors.items() if other != name}
        assert_refused(config, others, f"1 missing, {name}. No weight is made up", family=family)


@pytest.mark.parametrize("family", foreign.FAMILIES)
def test_every_mis_shaped_tensor_is_named(family):
    config, tensors = make(family)
    for name, tensor in tensors.items():
        long = np.concatenate([tensor, tensor[:1]])
        shapes = f"{name} of the file has the shape {list(long.shape)}, and its config asks for "
        assert_refused(
            config, {**tensors, name: long}, shapes + str(list(tensor.shape)), family=family
        )
        assert_refused(config, {**tensors, name: tensor[None]}, name, family=family)
    # As many numbers, but the wrong way round.
    name = next(name for name in tensors if name.endswith("intermediate.dense.weight"))
    turned = {**tensors, name: tensors[name].T}
    assert_refused(config, turned, "[16, 24], and its config asks for [24, 16]", family=family)


def test_every_unknown_tensor_is_named():
    config, tensors = make()
    for name in (
        *("roberta.encoder.layer.3.output.dense.bias", "lm_head.dense.scale", "x", "roberta"),
        *("roberta.encoder.layer.0.attention.self.query.lora_A.weight", "decoder.weight"),
    ):
        assert_refused(config, {**tensors, name: np.zeros(1)}, f"1 unknown, {name}.")


def test_an_encoder_alone_is_refused():
    config, tensors = make()
    bare = {
        name.removeprefix("roberta."): tensor
        for name, tensor in tensors.items()
        if not name.startswith("lm_head")
    }
    assert_refused(
        *(config, bare, f"{len(tensors)} missing, ", f"{len(bare)} unknown, embeddings.LayerNorm"),
        "A model with the head of a masked language model",
        "an encoder alone has none",
    )


def test_a_model_with_another_head_is_refused():
    config, tensors = make()
    head = TaskHead(task="classification", num_outputs=2)
    params = random_params(config, head)
    classifier = dict(tensors_of(params, config, "roberta", head=head))
    assert_refused(config, classifier, "5 missing, ", "lm_head.bias", "4 unknown, classifier.dense")
    assert_refused(config, {**tensors, **classifier}, "4 unknown, classifier.dense.bias")


def test_more_layers_or_fewer_than_the_config_has():
    config, tensors = make()
    config.num_layers = 2
    assert_refused(config, tensors, "16 unknown, roberta.encoder.layer.2.attention.output", ", …")
    config.num_layers = 4
    assert_refused(config, tensors, "16 missing, ", "roberta.encoder.layer.3.")


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.bool_, np.complex64])
def test_numbers_that_are_no_weights_are_refused(dtype):
    config, tensors = make()
    name = "roberta.encoder.layer.1.output.dense.weight"
    wrong = {**tensors, name: tensors[name].astype(dtype)}
    message = f"{name} of the file is of the type {np.dtype(dtype)}. Only weights in floating point"
    assert_refused(config, wrong, message)
