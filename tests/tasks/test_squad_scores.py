"""Equal to the official scripts: to what they print, and case by case to their rules."""

import json
import pathlib

import numpy as np
import pytest

from roberta_jax.tasks import squad_scores
from roberta_jax.tasks.catalogue import find_task
from roberta_jax.tasks.examples import Answer, QuestionExample
from roberta_jax.tasks.squad import load_squad

# How it was made stands in it.
OFFICIAL = json.loads(
    (pathlib.Path(__file__).parent / "golden" / "squad_official.json").read_text(encoding="utf-8")
)["cases"]
# Their names → ours.
SCORES_1_1 = {"exact_match": "exact_match", "f1": "f1"}
SCORES_2_0 = {
    "exact": "exact_match",
    "f1": "f1",
    "HasAns_exact": "has_answer_exact_match",
    "HasAns_f1": "has_answer_f1",
    "NoAns_exact": "no_answer_accuracy",
    "NoAns_f1": "no_answer_accuracy",
    "best_exact": "best_exact_match",
    "best_f1": "best_f1",
}
# Counts, and what `squad_scores` does not tell.
NO_SCORES = {"total", "HasAns_total", "NoAns_total", "best_exact_thresh", "best_f1_thresh"}


def percent(value):
    """Of one golden figure: all its digits but the last few of the sum's rounding."""
    return pytest.approx(value / 100, rel=1e-12, abs=1e-12)


def examples_of(task, case, tmp_path):
    path = tmp_path / "dev.json"
    path.write_text(json.dumps(case["dataset"]), encoding="utf-8")
    loaded = load_squad(find_task(task), str(path), for_training=False)
    assert not loaded.notes
    return loaded.splits["dev"]


def test_figures_of_the_script_of_1_1(tmp_path):
    (case,) = (case for case in OFFICIAL if case["script"] == "evaluate-v1.1.py")
    examples = examples_of("squad1", case, tmp_path)
    # What a file of predictions leaves out gets no score there, and is "" here.
    texts = [case["predictions"].get(example.id, "") for example in examples]
    assert len(texts) == len(case["predictions"]) + 1
    found = squad_scores.squad_scores(examples, texts, None, None)
    (run,) = case["runs"]
    assert found == {SCORES_1_1[name]: percent(value) for name, value in run["official"].items()}


@pytest.mark.parametrize(
    ("case", "run"),
    [
        (case, run)
        for case in OFFICIAL
        if case["script"] == "evaluate-v2.0.py"
        for run in case["runs"]
    ],
)
def test_figures_of_the_script_of_2_0(case, run, tmp_path):
    examples = examples_of("squad2", case, tmp_path)
    texts = [case["predictions"][example.id] for example in examples]
    probabilities = run["na_probs"] or dict.fromkeys(case["predictions"], 0.0)
    no_answer = np.array([probabilities[example.id] for example in examples])
    threshold = 1.0 if run["threshold"] is None else run["threshold"]
    found = squad_scores.squad_scores(examples, texts, no_answer, threshold)
    official = run["official"]
    assert set(official) <= set(SCORES_2_0) | NO_SCORES
    for name in set(official) - NO_SCORES:
        assert found[SCORES_2_0[name]] == percent(official[name]), name
    if run["na_probs"] is None:
        return
    raw = scores(examples, texts)
    for name, values in (("exact", raw.exact), ("f1", raw.f1)):
        best, chosen = squad_scores.best_threshold(values, no_answer, raw.has_answer, raw.answered)
        assert best == percent(official[f"best_{name}"])
        assert chosen == official[f"best_{name}_thresh"]
    assert squad_scores.choose_threshold(examples, texts, no_answer) == official["best_f1_thresh"]


def question(*answers, name="q"):
    return QuestionExample(
        id=name, question="?", passage="", answers=tuple(Answer(text, 0) for text in answers)
    )


def scores(examples, predictions, *, unanswerable=True):
    return squad_scores.question_scores(examples, predictions, unanswerable=unanswerable)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Norman\tConquest!", "norman conquest"),
        ("a an the", ""),
        ("Another thesis, than anthem", "another thesis than anthem"),  # Articles within words.
        ("The-end", "theend"),  # The hyphen goes first, so no article is left.
        ("the\u2013end", "\u2013end"),  # A dash of Unicode stays, and bounds the word.
        ("\u201cquoted\u201d", "\u201cquoted\u201d"),  # So do typographic quotes.
        ("U.S.", "us"),
        ("a.m.", "am"),
        ("!?...", ""),
        ("non\u00a0breaking", "non breaking"),
        ("\u00c9cole A", "\u00e9cole"),
        ("$1,000.50", "100050"),
    ],
)
def test_normalisation(text, normal):
    assert squad_scores.normalise(text) == normal


@pytest.mark.parametrize(
    ("answer", "prediction", "exact", "f1"),
    [
        ("Norman Conquest", "the norman conquest.", 1, 1),
        ("in the 10th century", "10th century", 0, 2 * (2 / 2 * 2 / 3) / (1 + 2 / 3)),
        ("to be or not to be", "to be", 0, 0.5),
        ("to be", "to to to be", 0, 2 * (2 / 4 * 1) / (2 / 4 + 1)),  # A word counts as it occurs.
        ("new york", "los angeles", 0, 0),
        ("Paris", "", 0, 0),
        ("", "", 1, 1),
        ("The", "", 1, 1),  # Nothing is left of either.
    ],
)
def test_exact_match_and_f1(answer, prediction, exact, f1):
    assert squad_scores.exact_match(answer, prediction) == exact
    assert squad_scores.f1(answer, prediction) == pytest.approx(f1, abs=1e-12)


def test_the_best_of_several_answers_counts_for_each_score_by_itself():
    found = scores([question("the big red house", "red", "house")], ["red house"])
    assert found.exact.tolist() == [0]
    assert found.f1.tolist() == [pytest.approx(0.8)]


def test_a_question_without_an_answer_is_right_when_nothing_is_predicted():
    found = scores([question(), question(), question("x")], ["", "y", ""])
    assert found.exact.tolist() == found.f1.tolist() == [1, 0, 0]
    assert found.has_answer.tolist() == [False, False, True]
    assert found.answered.tolist() == [False, True, False]


def test_an_article_as_the_answer_is_no_answer_in_2_0_and_shares_no_word_in_1_1():
    examples, predictions = [question("The"), question("a", "x")], ["", "the"]
    second = scores(examples, predictions)
    assert second.exact.tolist() == [1, 0] and second.f1.tolist() == [1, 0]
    first = scores(examples, predictions, unanswerable=False)
    assert first.exact.tolist() == [1, 1] and first.f1.tolist() == [0, 0]


def by_hand(values, no_answer, has_answer, answered):
    """`find_best_thresh` said in another way: every prefix of the order is scored by itself."""
    order = sorted(range(len(values)), key=lambda index: no_answer[index])
    best, threshold = sum(not has for has in has_answer), 0.0
    for count in range(1, len(order) + 1):
        total = 0
        for place, index in enumerate(order):
            if has_answer[index]:
                total += values[index] if place < count else 0
            else:
                total += 0 if place < count and answered[index] else 1
        if total > best + 1e-12:
            best, threshold = total, no_answer[order[count - 1]]
    return best / len(values), threshold


def test_the_best_threshold_is_that_of_the_script_on_many_random_cases():
    generator = np.random.default_rng(0)
    for _ in range(200):
        size = int(generator.integers(1, 12))
        no_answer = generator.integers(0, 5, size) / 4  # Many ties.
        has_answer = generator.random(size) < 0.5
        answered = generator.random(size) < 0.8
        values = generator.integers(0, 3, size) / 2
        found = squad_scores.best_threshold(values, no_answer, has_answer, answered)
        assert found == by_hand(values, no_answer, has_answer, answered)


def test_the_first_of_equally_good_thresholds_is_taken():
    # By rising score: +1, then -1 +1, which is no better.
    found = squad_scores.best_threshold(
        np.array([1.0, 0, 1]),
        np.array([0.1, 0.2, 0.3]),
        np.array([True, False, True]),
        np.ones(3, bool),
    )
    assert found == (pytest.approx(2 / 3), 0.1)


def test_equal_scores_are_taken_in_the_order_given():
    has_answer = np.array([True, False])
    one = squad_scores.best_threshold(
        np.array([1.0, 0]), np.array([0.5, 0.5]), has_answer, np.ones(2, bool)
    )
    other = squad_scores.best_threshold(
        np.array([0, 1.0]), np.array([0.5, 0.5]), ~has_answer, np.ones(2, bool)
    )
    assert one == (1.0, 0.5)  # Between the two, which no threshold can be: so says the script.
    assert other == (0.5, 0.0)


def test_where_answering_nothing_is_best_the_threshold_answers_nothing():
    examples = [question(), question("x")]
    no_answer = np.array([-3.0, 2.0])
    threshold = squad_scores.choose_threshold(examples, ["y", "z"], no_answer)
    assert (no_answer > threshold).all()
    found = squad_scores.squad_scores(examples, ["y", "z"], no_answer, threshold)
    assert found["f1"] == found["best_f1"] == 0.5


def test_a_threshold_from_elsewhere_is_used_as_it_is():
    examples = [question("a house"), question("tree"), question()]
    texts, no_answer = ["house", "big tree", "sky"], np.array([-2.0, 0.0, 1.0])
    assert squad_scores.choose_threshold(examples, texts, no_answer) == 0.0
    chosen = squad_scores.squad_scores(examples, texts, no_answer, None)
    assert chosen["exact_match"] == pytest.approx(2 / 3)
    assert chosen["f1"] == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert chosen["best_exact_match"] == pytest.approx(2 / 3)
    given = squad_scores.squad_scores(examples, texts, no_answer, -1.0)
    assert given["exact_match"] == given["f1"] == pytest.approx(2 / 3)
    assert given["has_answer_exact_match"] == given["has_answer_f1"] == 0.5
    assert given["no_answer_accuracy"] == 1
    assert given["best_f1"] == chosen["f1"]
    all_answered = squad_scores.squad_scores(examples, texts, no_answer, 5.0)
    assert all_answered["no_answer_accuracy"] == 0


def test_without_unanswerable_questions_there_are_two_scores():
    found = squad_scores.squad_scores([question("x"), question("y")], ["x", "z"], None, None)
    assert found == {"exact_match": 0.5, "f1": 0.5}
