"""The table of names."""

import dataclasses
import pathlib

import jax
import pytest

from roberta_jax.encoder.task_model import TASKS, TaskHead
from roberta_jax.interop.names import class_name, present_name, tensor_name
from roberta_jax.interop.transformers_config import encoder_config
from roberta_jax.interop.weights import tensor_shapes, weight_shapes
from roberta_jax.parallel.tables import path_name
from tests.interop import foreign

NUM_OUTPUTS = {"classification": 3, "choice": 1, "span": 2, "tokens": 3}


def encoder(family):
    return encoder_config(foreign.config_values(family), pathlib.Path("model"))


@pytest.mark.parametrize("family", foreign.FAMILIES)
def test_the_names_and_shapes_are_those_of_transformers(family):
    tensors = foreign.make_tensors(foreign.config_values(family))
    found = tensor_shapes(encoder(family), family)
    assert found == {name: tensor.shape for name, tensor in tensors.items()}


def test_the_names_and_shapes_of_a_bert_with_both_heads():
    values = foreign.config_values("bert", **foreign.PRETRAINING)
    config = encoder_config(values, pathlib.Path("model"))
    wanted = {name: tensor.shape for name, tensor in foreign.make_tensors(values).items()}
    assert tensor_shapes(config, "bert") == wanted
    # The head of a task takes their place.
    head = TaskHead(task="span", num_outputs=2)
    names = tensor_shapes(config, "bert", head=head)
    assert not [name for name in names if "pooler" in name or name.startswith("cls.")]


@pytest.mark.parametrize("family", foreign.FAMILIES)
@pytest.mark.parametrize("task", TASKS)
def test_every_weight_of_every_head_has_a_name_of_its_own(task, family):
    head = TaskHead(task=task, num_outputs=NUM_OUTPUTS[task])
    leaves = jax.tree_util.tree_leaves_with_path(weight_shapes(encoder(family), head))
    names = [tensor_name(path_name(path), family, task).name for path, _ in leaves]
    assert len(set(names)) == len(names)
    assert not [name for name in names if name.startswith(("lm_head", "cls."))]


HEADS = {
    ("classification", "roberta"): {"classifier.dense.weight", "classifier.out_proj.weight"},
    ("classification", "bert"): {"bert.pooler.dense.weight", "classifier.weight"},
    ("choice", "xlm-roberta"): {"roberta.pooler.dense.weight", "classifier.weight"},
    ("choice", "bert"): {"bert.pooler.dense.weight", "classifier.weight"},
    ("span", "roberta"): {"qa_outputs.weight"},
    ("span", "bert"): {"qa_outputs.weight"},
    ("tokens", "xlm-roberta"): {"classifier.weight"},
    ("tokens", "bert"): {"classifier.weight"},
}


@pytest.mark.parametrize(("task", "family"), HEADS)
def test_the_names_of_heads(task, family):
    head = TaskHead(task=task, num_outputs=NUM_OUTPUTS[task])
    shapes = tensor_shapes(encoder(family), family, head=head)
    known = set(tensor_shapes(encoder(family), family))
    weights = {name for name in set(shapes) - known if name.endswith("weight")}
    assert weights == HEADS[task, family]
    assert shapes[min(weights, key=lambda name: shapes[name])][0] in (NUM_OUTPUTS[task], 16)


@pytest.mark.parametrize(
    ("family", "task", "name"),
    [
        ("roberta", "masked_lm", "RobertaForMaskedLM"),
        ("xlm-roberta", "masked_lm", "XLMRobertaForMaskedLM"),
        ("bert", "span", "BertForQuestionAnswering"),
        ("roberta", "choice", "RobertaForMultipleChoice"),
        ("xlm-roberta", "tokens", "XLMRobertaForTokenClassification"),
        ("bert", "classification", "BertForSequenceClassification"),
        ("bert", "pretraining", "BertForPreTraining"),
    ],
)
def test_classes(family, task, name):
    assert class_name(family, task) == name


def test_a_weight_that_no_row_covers_is_an_error():
    for path in ("layers/mlp/side/kernel", "embedding/words/embedding", "head/pooler/kernel"):
        with pytest.raises(KeyError, match="every weight must be covered"):
            tensor_name(path, "roberta")
    with pytest.raises(KeyError, match="every weight must be covered"):
        tensor_name("next_sentence_head/dense/kernel", "roberta")


def test_kernels_are_transposed_and_layers_are_stacked():
    kernel = tensor_name("layers/attention/query/kernel", "roberta")
    assert dataclasses.astuple(kernel) == (
        *("roberta.encoder.layer.{layer}.attention.self.query.weight", True),
    )
    assert kernel.stacked
    table = tensor_name("embedding/token/embedding", "bert")
    assert dataclasses.astuple(table) == ("bert.embeddings.word_embeddings.weight", False)
    assert not table.stacked


def test_old_names_of_bert():
    old = "bert.encoder.layer.0.output.LayerNorm"
    assert present_name(f"{old}.gamma") == f"{old}.weight"
    assert present_name(f"{old}.beta") == f"{old}.bias"
    assert present_name("cls.predictions.bias") == "cls.predictions.bias"
