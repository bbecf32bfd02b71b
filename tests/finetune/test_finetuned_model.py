"""A fine-tuned model, asked from Python."""

import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import roberta_jax
from roberta_jax.encoder.task_model import bind_task
from roberta_jax.errors import TruncationWarning, UserError
from tests.finetune import models
from tests.finetune.models import PASSAGE, TEXTS
from tests.interop import foreign


@pytest.fixture(scope="session")
def loaded(tmp_path_factory):
    """name → model, loaded from its folder once."""
    folder, found = tmp_path_factory.mktemp("models"), {}

    def load(name):
        if name not in found:
            found[name] = roberta_jax.load_task(models.write_model(folder / name, name))
        return found[name]

    return load


def scores_of_row(name, row):
    """What the head gives of a row of ids, without batches, padding or other devices."""
    model = models.make_model(name)
    bound = bind_task(model.encoder, model.head, model.params)
    return [
        None if each is None else np.asarray(each, np.float64)
        for each in bound.outputs(jnp.asarray([row]))
    ]


def row_of(name, first, second=None):
    tokenizer = models.make_model(name).tokenizer
    return tokenizer.row(
        tokenizer.encode(first), None if second is None else tokenizer.encode(second)
    )


def test_classes_with_their_probabilities(loaded):
    found = loaded("classification").predict(TEXTS)
    labels = models.TASKS["classification"].labels
    for text, answer in zip(TEXTS, found, strict=True):
        (scores,), _ = scores_of_row("classification", row_of("classification", text))
        wanted = scipy.special.softmax(scores)
        assert answer.label == labels[scores.argmax()]
        assert answer.probability == max(answer.probabilities.values())
        assert list(answer.probabilities) == [labels[i] for i in np.argsort(-wanted)]
        for label, probability in zip(labels, wanted, strict=True):
            assert answer.probabilities[label] == pytest.approx(probability, abs=1e-5)
    assert len({round(answer.probability, 6) for answer in found}) == len(TEXTS)


def test_numbers_are_in_the_unit_of_the_labels(loaded):
    found = loaded("regression").predict(TEXTS)
    for text, value in zip(TEXTS, found, strict=True):
        (scores,), _ = scores_of_row("regression", row_of("regression", text))
        assert value == pytest.approx(scores[0] * 1.75 + 3.25, abs=1e-5)


def test_pairs(loaded):
    (found,) = loaded("pairs").predict(["The old river."], ["Nobody fell."])
    (scores,), _ = scores_of_row("pairs", row_of("pairs", "The old river.", "Nobody fell."))
    wanted = dict(zip(models.TASKS["pairs"].labels, scipy.special.softmax(scores), strict=True))
    assert found.probabilities == pytest.approx(wanted, abs=1e-5)
    (other,) = loaded("pairs").predict(["Nobody fell."], ["The old river."])
    assert other.probabilities != pytest.approx(wanted, abs=1e-4)


def test_every_word_gets_the_class_of_its_first_token(loaded):
    text = "Anna  crossed the bridge"
    (found,) = loaded("tokens").predict([text])
    assert [word for word, _ in found] == text.split()
    assert loaded("tokens").predict([text.split()]) == [found]
    row, tokenizer = row_of("tokens", " ".join(text.split())), foreign.byte_bpe()
    (scores,), _ = scores_of_row("tokens", row)
    labels = models.TASKS["tokens"].labels
    places = [1]
    for end in range(1, len(text.split())):
        places.append(1 + len(tokenizer.encode(" ".join(text.split()[:end]))))
    assert [label for _, label in found] == [labels[scores[place].argmax()] for place in places]


def test_answers_are_parts_of_the_passage(loaded):
    short = "The old river."
    questions = ["What river?", "Who?"]
    found = loaded("span").answer(questions, [PASSAGE, short])
    assert all(answer.no_answer_score is None for answer in found)
    assert found[0].text in PASSAGE and found[1].text in short
    tokenizer = foreign.byte_bpe()
    row = row_of("span", "Who?", short)
    (scores,), _ = scores_of_row("span", row)
    ids, offsets = tokenizer.encode_with_offsets(short)
    begin = len(row) - 1 - len(ids)
    spans = {
        scores[begin + i, 0] + scores[begin + j, 1]: short[offsets[i][0] : offsets[j][1]]
        for i in range(len(ids))
        for j in range(i, len(ids))
    }
    assert found[1].text == spans[max(spans)]


def test_a_threshold_leaves_questions_unanswered(loaded, tmp_path):
    folder = models.write_model(tmp_path / "model", "unanswerable")
    questions, passages = ["What river?", "Why?"], ["The old river.", "A stone."]
    found = loaded("unanswerable").answer(questions, passages)
    scores = [answer.no_answer_score for answer in found]
    _, answerable = scores_of_row("unanswerable", row_of("unanswerable", questions[0], passages[0]))
    assert scores[0] == pytest.approx(-answerable[0], abs=1e-5)
    assert [answer.text == "" for answer in found] == [score > 0.25 for score in scores]
    low, high = min(scores), max(scores)
    middle = roberta_jax.load_task(folder, no_answer_threshold=(low + high) / 2)
    answers = middle.answer(questions, passages)
    assert [answer.text == "" for answer in answers] == [score == high for score in scores]
    never = roberta_jax.load_task(folder, no_answer_threshold=high)
    assert all(answer.text for answer in never.answer(questions, passages))


@pytest.mark.slow
def test_an_option_is_chosen(loaded):
    options = ["old", "no", "stone"]
    question, passage = "Is it _ ?", "The bridge."
    found = loaded("choice").choose(question, options, passage)
    scores = []
    for option in options:
        row = row_of("choice", f"Is it {option} ?", passage)
        scores.append(scores_of_row("choice", row)[0][0, 0])
    wanted = dict(zip(options, scipy.special.softmax(scores), strict=True))
    assert found.probabilities == pytest.approx(wanted, abs=1e-5)
    assert found.label == max(wanted, key=wanted.get) == next(iter(found.probabilities))
    broken = loaded("choice").choose(question, options, passage.replace(" ", "\n"))
    assert broken == found
    # Other numbers of options are other programs.
    fewer = loaded("choice").choose(question, options[:2], passage)
    assert set(fewer.probabilities) == set(options[:2])


def test_nothing_is_said_of_nothing(loaded):
    assert loaded("classification").predict([]) == []
    assert loaded("tokens").predict([]) == []
    assert loaded("span").answer([], []) == []


def test_a_model_is_compiled_once_for_texts_of_a_length(loaded):
    model = loaded("classification")
    assert programs_compiled_by(lambda: model.predict(["the"])) == 1
    assert programs_compiled_by(lambda: model.predict(["old", "a", "the old"])) == 0


def programs_compiled_by(call):
    records = []

    class Keep(logging.Handler):
        def emit(self, record):
            if "Compiling jit(run)" in record.getMessage():
                records.append(record)

    logger, handler = logging.getLogger("jax"), Keep()
    logger.addHandler(handler)
    try:
        with jax.log_compiles():
            call()
    finally:
        logger.removeHandler(handler)
    return len(records)


# ---- Too long -----------------------------------------------------------------------------------

LONG = "river " * 99


def test_what_is_too_long_is_cut_and_counted(loaded):
    model = loaded("classification")
    with pytest.warns(TruncationWarning, match="2 of 3 texts are too long .* at most 48 tokens"):
        found = model.predict([LONG, TEXTS[0], LONG + "not"])
    assert found[0] == found[2]  # Nothing but the end differs.
    assert found[1].probabilities == pytest.approx(model.predict(TEXTS)[0].probabilities, abs=1e-5)
    with pytest.raises(UserError, match="1 of 1 text is too long .* Shorten what is too long"):
        model.predict([LONG], strict=True)
    with pytest.warns(TruncationWarning, match="1 of 1 question is too long .* at most 20 tokens"):
        loaded("span").answer([LONG], ["The river."])
    with pytest.warns(TruncationWarning, match="1 of 1 text is too long"):
        (words,) = loaded("tokens").predict([LONG])
    assert len(words) == 99  # Also the words that were cut off.


# ---- What cannot be asked -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "ask", "message"),
    [
        ("classification", lambda m: m.predict("one"), "texts must be a list, not one text"),
        ("classification", lambda m: m.predict(["a"], ["b"]), "moods is about single texts"),
        ("pairs", lambda m: m.predict(["a"]), "RTE is about pairs of texts"),
        ("pairs", lambda m: m.predict(["a"], ["b", "c"]), "Given: 1 text and 2 second ones"),
        ("tokens", lambda m: m.predict(["a"], ["b"]), "leave the second one out"),
        ("tokens", lambda m: m.predict(["a", " "]), "The text 1 .* has no words"),
        ("span", lambda m: m.predict(["a"]), r"use answer\(questions, passages\)"),
        ("span", lambda m: m.answer(["a"], []), "Given: 1 question and 0 passages"),
        ("span", lambda m: m.answer(["a"], [" "]), "The passage 0 .* is empty"),
        ("classification", lambda m: m.answer(["a"], ["b"]), "use predict"),
        ("choice", lambda m: m.choose("a", ["b"], "c"), "there must be two at least"),
        ("choice", lambda m: m.choose("a", ["b", "b"], "c"), "each once"),
        ("regression", lambda m: m.choose("a", ["b", "c"], "d"), "is for regression: use predict"),
        ("regression", lambda m: m.predict(["\udcff"]), "Unicode"),
    ],
)
def test_what_makes_no_sense_is_told(loaded, name, ask, message):
    with pytest.raises(UserError, match=message) as caught:
        ask(loaded(name))
    assert "\n" not in str(caught.value)


def test_a_threshold_is_for_questions(tmp_path):
    folder = models.write_model(tmp_path / "model")
    with pytest.raises(UserError, match="moods asks for no answers"):
        roberta_jax.load_task(folder, no_answer_threshold=1.0)


def test_other_folders_are_refused(complete, tmp_path):
    folder = models.write_model(tmp_path / "run" / "moods" / "model")
    with pytest.raises(UserError, match="model of table, not of rte"):
        roberta_jax.load_task(folder, task="rte")
    with pytest.raises(UserError, match="nowhere is not there"):
        roberta_jax.load_task(tmp_path / "nowhere")
    with pytest.raises(
        UserError, match=r"has no head for a task. Fine-tune it first: `roberta-jax"
    ):
        roberta_jax.load_task(complete)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no fine-tuned model of rte. Give the --workdir of"):
        roberta_jax.load_task(tmp_path / "empty", task="rte")
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(UserError, match="has no complete weights"):
        roberta_jax.load_task(tmp_path / "run")
