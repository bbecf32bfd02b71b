"""Models of transformers' classes for tasks, from folders that another system wrote."""

import json

import numpy as np
import pytest

import roberta_jax
from roberta_jax.encoder.task_model import TaskHead, bind_task
from roberta_jax.errors import UserError
from roberta_jax.interop.huggingface import (
    read_huggingface,
    read_huggingface_task,
    write_huggingface,
)
from roberta_jax.interop.names import class_name, family_and_task
from roberta_jax.interop.weights import weight_shapes
from tests.encoder.tiny import random_like
from tests.interop import foreign

HEADS = {
    "classification": (3, ("no", "perhaps", "yes")),
    "regression": (1, ()),
    "choice": (1, ()),
    "span": (2, ()),
    "tokens": (4, ("O", "B-PER", "I-PER", "B-LOC")),
}
families = pytest.mark.parametrize("family", foreign.FAMILIES)


def write_folder(folder, kind="classification", family="roberta", labels=None, **changes):
    """A folder as transformers writes it; `changes` are of its config.json, None takes away."""
    num_outputs, names = HEADS[kind]
    labels = names if labels is None else labels
    head = TaskHead(
        task="classification" if kind == "regression" else kind,
        num_outputs=len(labels) or num_outputs,
        dropout_rate=0.0,
    )
    foreign.write_folder(folder / "encoder", family)
    base = read_huggingface(folder / "encoder")
    params = random_like(weight_shapes(base.config, head), 2)
    write_huggingface(
        folder, params, base.config, base.tokenizer, family=family, head=head, labels=labels
    )
    path = folder / "config.json"
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(
        json.dumps({name: value for name, value in values.items() if value is not None})
    )
    return folder


def test_every_class_has_a_name():
    for family in foreign.FAMILIES:
        for task in ("classification", "choice", "span", "tokens", "masked_lm"):
            assert family_and_task(class_name(family, task)) == (family, task)
    assert family_and_task("RobertaModel") is None


@families
@pytest.mark.parametrize("kind", HEADS)
def test_the_kind_is_that_of_the_class(tmp_path, kind, family):
    foreign_model = read_huggingface_task(write_folder(tmp_path, kind, family))
    assert (foreign_model.family, foreign_model.left_out) == (family, [])
    assert foreign_model.head.num_outputs == HEADS[kind][0]
    assert foreign_model.head.task == ("classification" if kind == "regression" else kind)
    assert foreign_model.labels == (("LABEL_0",) if kind == "regression" else HEADS[kind][1])


@pytest.mark.parametrize("kind", HEADS)
def test_it_answers(tmp_path, kind):
    model = roberta_jax.load_task(write_folder(tmp_path, kind, "xlm-roberta"))
    assert model.task.kind == kind and model.max_tokens == foreign.POSITIONS
    if kind == "span":
        (answer,) = model.answer(["the"], ["the old river"])
        assert answer.text in "the old river" and answer.no_answer_score is None
    elif kind == "choice":
        assert model.choose("the", ["old", "small"], "river").label in ("old", "small")
    else:
        (found,) = model.predict(["the river"])
        assert {
            "regression": lambda: isinstance(found, float),
            "tokens": lambda: [word for word, _ in found] == ["the", "river"],
            "classification": lambda: set(found.probabilities) == set(HEADS[kind][1]),
        }[kind]()


def test_two_token_types_are_told_apart(tmp_path):
    """A BERT reads the second text with its other type."""
    model = roberta_jax.load_task(write_folder(tmp_path, family="bert"))
    (pair,), (single,) = model.predict(["the"], ["river"]), model.predict(["the river"])
    assert pair.probabilities != pytest.approx(single.probabilities, abs=1e-3)
    tokenizer = model.tokenizer
    row = np.array([tokenizer.row(tokenizer.encode("the"), tokenizer.encode("river"))])
    foreign_model = read_huggingface_task(tmp_path)
    types = (np.arange(row.shape[1]) >= 3).astype(np.int32)[None]  # [CLS] the [SEP] river [SEP]
    bound = bind_task(foreign_model.config, foreign_model.head, foreign_model.params)
    scores = np.asarray(bound(row, token_types=types), np.float64)[0]
    wanted = np.exp(scores) / np.exp(scores).sum()
    labels = HEADS["classification"][1]
    assert pair.probabilities == pytest.approx(dict(zip(labels, wanted, strict=True)), abs=1e-5)


def test_a_threshold_can_be_given_to_a_model_that_was_not_trained_for_it(tmp_path):
    folder = write_folder(tmp_path, "span")
    model = roberta_jax.load_task(folder, no_answer_threshold=-1e9)
    (answer,) = model.answer(["Who?"], ["The river."])
    assert answer.text == "" and np.isfinite(answer.no_answer_score)
    model = roberta_jax.load_task(folder, no_answer_threshold=answer.no_answer_score)
    assert model.answer(["Who?"], ["The river."])[0].text


# ---- Which published task it is -----------------------------------------------------------------


def test_labels_of_a_published_task_are_known_by_name_in_any_order(tmp_path):
    labels = ("ENTAILMENT", "NEUTRAL", "CONTRADICTION")
    model = roberta_jax.load_task(write_folder(tmp_path, labels=labels), task="mnli")
    assert (model.task.name, model.num_texts) == ("mnli", 2)
    assert model.task.labels == ("entailment", "neutral", "contradiction")
    plain = roberta_jax.load_task(tmp_path)
    (found,), (other,) = (each.predict(["the"], ["river"]) for each in (model, plain))
    assert {name.upper(): p for name, p in found.probabilities.items()} == other.probabilities


def test_classes_without_names_are_those_of_a_task_that_numbers_them(tmp_path):
    folder = write_folder(tmp_path, labels=("LABEL_0", "LABEL_1"), id2label=None, label2id=None)
    assert roberta_jax.load_task(folder).task.labels == ("LABEL_0", "LABEL_1")
    assert roberta_jax.load_task(folder, task="sst2").task.labels == ("0", "1")
    with pytest.raises(UserError, match="called LABEL_0, LABEL_1, and those of RTE not_entailment"):
        roberta_jax.load_task(folder, task="rte")


@pytest.mark.parametrize(
    ("kind", "task", "message"),
    [
        ("classification", "rte", "cannot be one of RTE: it is for classification with the class"),
        ("classification", "mnli", "are called no, perhaps, yes, and those of MNLI contradiction"),
        ("classification", "stsb", "STS-B is regression."),
        ("tokens", "squad1", "SQuAD 1.1 is span."),
        ("span", "sst3", "'sst3' is no published task"),
    ],
)
def test_a_model_of_another_task_is_refused(tmp_path, kind, task, message):
    with pytest.raises(UserError, match=message):
        roberta_jax.load_task(write_folder(tmp_path, kind), task=task)


def test_tasks_without_classes(tmp_path):
    model = roberta_jax.load_task(write_folder(tmp_path, "regression"), task="stsb")
    # Its numbers are in the unit of the labels already.
    assert (model.task.name, model.task.scale, model.task.shift) == ("stsb", 1.0, 0.0)


# ---- What is no model of a task -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["RobertaForMaskedLM"]}, "has no head for a task: .*finetune --init_f"),
        ({"architectures": None}, r"architectures: \[\]. Supported are RobertaForSequenceClass"),
        ({"architectures": ["BertForQuestionAnswering"]}, "has no head for a task"),
        ({"architectures": ["RobertaForQuestionAnswering"]}, "missing, qa_outputs"),
        ({"problem_type": "multi_label_classification"}, "problem_type='multi_label_classificat"),
        ({"problem_type": "regression"}, "problem_type='regression' with 3 outputs"),
        ({"id2label": {"0": "a", "2": "b"}}, "must give names to the numbers 0, 1, 2"),
        ({"id2label": {"0": "a", "1": "a", "2": "b"}}, "no name twice"),
        ({"id2label": ["a", "b"]}, "must give names to the numbers"),
        ({"id2label": {}}, "at least one name"),
        ({"id2label": {"0": "a", "1": "b"}}, "classifier.out_proj"),
        ({"model_type": "gpt2"}, "is of the type 'gpt2'"),
    ],
)
def test_what_is_not_supported_is_told(tmp_path, changes, message):
    write_folder(tmp_path, **changes)
    with pytest.raises(UserError, match=message) as caught:
        roberta_jax.load_task(tmp_path)
    assert "\n" not in str(caught.value)
