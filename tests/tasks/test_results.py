"""The rules by which epochs, trials and averages are chosen; the file and the table."""

import dataclasses
import json

import pytest

from roberta_jax.errors import UserError
from roberta_jax.tasks.catalogue import TASKS
from roberta_jax.tasks.results import (
    RESULTS_FILE,
    CurvePoint,
    read_results,
    seed_result,
    write_results,
)
from tests.tasks.runs import make_point, make_result, make_trial


def test_the_best_epoch_is_the_first_with_the_best_first_score_on_the_first_dev_split():
    task = TASKS["mnli"]
    values = [(0.5, 0.9), (0.7, 0.2), (0.7, 0.8), (0.6, 0.9)]
    curve = [
        CurvePoint(
            step=step,
            epoch=step / 2,
            scores={"dev_matched": {"accuracy": one}, "dev_mismatched": {"accuracy": other}},
        )
        for step, (one, other) in enumerate(values)
    ]
    found = seed_result(task, 3, curve)
    assert (found.seed, found.best_step, found.best_epoch) == (3, 1, 0.5)
    assert found.scores["dev_mismatched"]["accuracy"] == 0.2
    assert found.curve == tuple(curve)


def test_the_threshold_of_the_best_epoch_is_kept():
    task = TASKS["squad2"]
    curve = [
        make_point(task, 10, 0.5, no_answer_threshold=-1.5),
        make_point(task, 20, 0.4, no_answer_threshold=7.0),
    ]
    assert seed_result(task, 0, curve).no_answer_threshold == -1.5


def test_the_best_trial_has_the_best_median_and_not_the_best_seed():
    result = make_result("sst2", [0.5, 0.99, 0.6], [0.7, 0.71, 0.1], [0.71, 0.1, 0.7])
    assert result.best_trial() is result.trials[1]  # The first of the two with 0.7.
    assert result.figures()["dev"]["accuracy"].median == 0.7
    assert result.median_seed().seed == 0


def test_the_spread_over_the_seeds():
    spread = make_trial(TASKS["sst2"], [0.9, 0.6, 0.7, 0.8]).spread("dev", "accuracy")
    assert dataclasses.astuple(spread) == pytest.approx((0.75, 0.75, (0.05 / 3) ** 0.5, 0.6, 0.9))
    alone = make_trial(TASKS["sst2"], [0.9]).spread("dev", "accuracy")
    assert (alone.median, alone.deviation) == (0.9, 0)
    assert make_trial(TASKS["sst2"], [0.9]).spread("dev", "f1") is None


def test_of_an_even_number_of_seeds_the_lower_middle_one_stands_for_the_trial():
    assert make_result("sst2", [0.9, 0.6, 0.7, 0.8]).median_seed().seed == 2


def test_the_figure_of_a_task_is_made_of_medians():
    """Of seeds whose mean and best value are others; the second split is 0.1 less."""
    assert make_result("mnli", [0.9, 0.3, 0.8], [0.2]).mean_figure() == pytest.approx(0.75)


def test_what_is_written_is_read_again(tmp_path):
    results = (
        make_result(
            "mnli",
            [0.5, 0.6],
            [0.7],
            confusion=((5, 1, 0), (2, 3, 4), (0, 0, 9)),
            notes=("One \u00e9tude.",),
            num_cut=3,
            test_scores={"test_matched": {"accuracy": 0.25}},
            init_from="base",
            num_parameters=12,
        ),
        make_result("stsb"),
    )
    path = write_results(tmp_path / "run", results)
    assert path.name == RESULTS_FILE
    assert read_results(tmp_path / "run") == results
    assert [one.name for one in (tmp_path / "run").iterdir()] == [RESULTS_FILE]
    figures = json.loads(path.read_text())["tasks"][0]["figures"]
    assert figures["dev_matched"]["accuracy"]["median"] == 0.7
    assert figures["dev_mismatched"]["accuracy"]["median"] == pytest.approx(0.6)


def test_results_of_a_version_without_test_scores_are_read(tmp_path):
    path = write_results(tmp_path, [make_result("race")])
    content = json.loads(path.read_text())
    del content["tasks"][0]["test_scores"]
    path.write_text(json.dumps(content))
    assert read_results(tmp_path) == (make_result("race"),)


def test_a_score_that_is_no_number_is_not_written(tmp_path):
    write_results(tmp_path, [make_result("sst2")])
    with pytest.raises(ValueError, match="JSON compliant"):
        write_results(tmp_path, [make_result("sst2", [float("nan")])])
    assert read_results(tmp_path) == (make_result("sst2"),)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "has no results.json"),
        ("{", "no JSON"),
        ("[]", "format None"),
        ('{"format": 2, "tasks": []}', "format 2"),
        ('{"format": 1}', "KeyError: 'tasks'"),
        ('{"format": 1, "tasks": [{"name": "x"}]}', "KeyError"),
        ('{"format": 1, "tasks": [7]}', "TypeError"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused(tmp_path, content, words):
    if content is not None:
        (tmp_path / RESULTS_FILE).write_text(content)
    with pytest.raises(UserError, match=words):
        read_results(tmp_path)
