"""A fine-tuned model as a folder of transformers, and read back from there."""

import json
import os

import jax
import numpy as np
import pytest

import roberta_jax
from roberta_jax.errors import UserError
from roberta_jax.finetune.export import export_task_model, exported_params
from roberta_jax.finetune.foreign_task import NOTES_FILE
from roberta_jax.interop.huggingface import read_huggingface_task
from tests.finetune import models
from tests.finetune.models import PASSAGE, TEXTS

CLASSES = {
    "classification": "RobertaForSequenceClassification",
    "regression": "RobertaForSequenceClassification",
    "tokens": "RobertaForTokenClassification",
    "span": "RobertaForQuestionAnswering",
    "unanswerable": "RobertaForQuestionAnswering",
    "choice": "RobertaForMultipleChoice",
    "pairs": "RobertaForSequenceClassification",
}
# Longer than the model's rows, so that the limits must be the same; with what is cut off.
LONG = "river stone " * 40


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {name: models.write_model(folder / name, name) for name in models.TASKS}


@pytest.fixture(scope="module")
def exported(stored, tmp_path_factory):
    """name → folder; tests must not change it."""
    output = tmp_path_factory.mktemp("exported")
    for name, folder in stored.items():
        export_task_model(folder, output / name, say=lambda line: None)
    return {name: output / name for name in stored}


def answers(model):
    """What it says of the same inputs, as numbers and texts."""
    kind = model.task.kind
    if kind == "span":
        found = model.answer(["What river?", "Who?"], [PASSAGE, "The old river."])
        return [answer.text for answer in found], []
    if kind == "choice":
        found = model.choose("Is it _ ?", ["old", "no"], "The bridge.")
        return [found.label], list(found.probabilities.values())
    texts = [*TEXTS, LONG]
    with pytest.warns(match="1 of 4 texts"):
        found = model.predict(texts, ["the"] * 4 if model.num_texts == 2 else None)
    if kind == "regression":
        return [], found
    if kind == "tokens":
        return found, []
    return [a.label for a in found], [p for a in found for p in a.probabilities.values()]


@pytest.mark.parametrize("name", models.TASKS)
def test_read_again_it_says_the_same(stored, exported, name):
    options = {"no_answer_threshold": 1e9} if name == "unanswerable" else {}  # Answers all.
    texts, numbers = answers(roberta_jax.load_task(stored[name], **options))
    again = roberta_jax.load_task(exported[name])
    found_texts, found_numbers = answers(again)
    assert found_texts == texts
    np.testing.assert_allclose(found_numbers, numbers, rtol=0, atol=1e-5)
    assert again.task.name == models.TASKS[name].name
    assert again.columns == models.make_model(name).columns


@pytest.mark.parametrize("name", models.TASKS)
def test_the_class_and_its_labels(exported, name):
    config = json.loads((exported[name] / "config.json").read_text())
    assert config["architectures"] == [CLASSES[name]]
    labels = models.TASKS[name].labels
    if name == "regression":
        assert config["problem_type"] == "regression" and config["id2label"] == {"0": "LABEL_0"}
    elif labels:
        assert config["id2label"] == {str(i): label for i, label in enumerate(labels)}
        assert config["label2id"] == {label: i for i, label in enumerate(labels)}
    if name in ("classification", "pairs"):
        assert config["problem_type"] == "single_label_classification"
    assert config["classifier_dropout"] == 0.2


def test_a_regression_is_exported_in_the_unit_of_its_labels():
    """The head's number is (label - shift) / scale: of every vector the same label comes out."""
    model = models.make_model("regression")
    vectors = np.random.Generator(np.random.Philox(key=1)).standard_normal((7, 16))
    before, after = (p["head"]["projection"] for p in (model.params, exported_params(model)))
    wanted = (vectors @ before["kernel"] + before["bias"]) * 1.75 + 3.25
    found = vectors @ after["kernel"] + after["bias"]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    # Nothing else changes.
    for name in ("embedding", "layers"):
        assert models.same_params(exported_params(model)[name], model.params[name])
    other = models.make_model("classification")
    assert models.same_params(exported_params(other), other.params)


def test_the_weights_are_those_of_the_model(exported):
    model = models.make_model("unanswerable")
    foreign = read_huggingface_task(exported["unanswerable"])
    assert set(model.params) - set(foreign.params) == {"answerable_head"}
    real = model.encoder.vocab_size
    for name, branch in foreign.params.items():
        for (path, found), wanted in zip(
            jax.tree_util.tree_leaves_with_path(branch),
            jax.tree.leaves(model.params[name]),
            strict=True,
        ):
            rows = slice(real) if found.shape[0] >= real else slice(None)
            np.testing.assert_array_equal(found[rows], wanted[rows], err_msg=str(path))


def test_what_is_left_out_is_said(stored, tmp_path):
    said = []
    export_task_model(stored["unanswerable"], tmp_path / "out", say=said.append)
    assert said[0].startswith("left out, since transformers' RobertaForQuestionAnswering has no")
    assert "the classifier of whether there is an answer" in said[0]
    assert said[1].startswith("RobertaForQuestionAnswering, SQuAD 2.0, float32, ")
    assert "has no place for" in (tmp_path / "out" / "README.md").read_text()
    said.clear()
    export_task_model(stored["span"], tmp_path / "other", say=said.append)
    assert len(said) == 1


def test_an_earlier_export_is_replaced_when_asked(stored, tmp_path):
    output = tmp_path / "out"
    export_task_model(stored["span"], output, say=lambda line: None)
    with pytest.raises(UserError, match="or --overwrite to replace it"):
        export_task_model(stored["classification"], output)
    options = {"overwrite": True, "dtype": "bfloat16", "say": lambda line: None}
    export_task_model(stored["classification"], output, **options)
    config = json.loads((output / "config.json").read_text())
    assert config["dtype"] == "bfloat16" and config["architectures"] == [CLASSES["classification"]]
    (found,) = roberta_jax.load_task(output).predict([TEXTS[0]])
    (wanted,) = roberta_jax.load_task(stored["classification"]).predict([TEXTS[0]])
    assert found.probabilities == pytest.approx(wanted.probabilities, abs=0.05)
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="did not write it"):
        export_task_model(stored["span"], tmp_path / "mine", overwrite=True)
    with pytest.raises(UserError, match="dtype"):
        export_task_model(stored["span"], tmp_path / "new", dtype="float16")
    assert not (tmp_path / "new").exists()


# ---- The card -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", models.TASKS)
def test_the_card_says_what_is_known(exported, name):
    card = (exported[name] / "README.md").read_text()
    task = models.TASKS[name]
    assert card.startswith("---\nlibrary_name: transformers\npipeline_tag: ")
    assert f"Fine-tuned for {task.title} with roberta_jax." in card
    assert all(label in card for label in task.labels)
    for line in (
        *("| began with | small, step 1,000 |", "| training rows | 4,321 |", "| batch | 16 |"),
        *("| peak learning rate | 2e-05 |", "| epochs planned | 3 |", "| seed | 3 |"),
        "| longest row, in tokens | 48 |",
    ):
        assert line in card
    assert "81.25 |" in card  # The score on the dev rows, in percent.
    assert "some/where" not in card and os.sep + "models" not in card


def test_a_card_of_a_model_of_which_little_is_known(tmp_path):
    folder = models.write_model(tmp_path / "model", training={}, scores={})
    export_task_model(folder, tmp_path / "out", say=lambda line: None)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Not known: no scores were stored" in card and "began with" not in card
    random = {"init_from": "random weights, in the shape of a b/c, d/small"}
    folder = models.write_model(tmp_path / "model", training=random)
    export_task_model(folder, tmp_path / "out", overwrite=True, say=lambda line: None)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| began with | random weights, in the shape of small |" in card


def test_notes_that_are_damaged_are_told(stored, tmp_path):
    output = tmp_path / "out"
    export_task_model(stored["span"], output, say=lambda line: None)
    notes = output / NOTES_FILE
    content = json.loads(notes.read_text())
    for text, message in (
        ("{", "cannot be read"),
        (json.dumps({**content, "format": 7}), "its format is 7"),
        (json.dumps({**content, "task": {**content["task"], "kind": "choice"}}), "do not belong"),
    ):
        notes.write_text(text)
        with pytest.raises(UserError, match=message):
            roberta_jax.load_task(output)
    notes.unlink()  # Then it is as any model of another system.
    assert roberta_jax.load_task(output).max_tokens == 56
