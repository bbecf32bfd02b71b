"""The table of results."""

import dataclasses

import pytest

from roberta_jax.tasks.results_table import (
    HEAD,
    TRIAL_HEAD,
    glue_average,
    markdown_table,
    remarks,
    task_rows,
    trial_rows,
    write_table,
)
from roberta_jax.tasks.task import Task
from tests.tasks.runs import make_result


def test_a_row_has_the_medians_and_the_published_figures():
    (row,) = task_rows([make_result("sst2", [0.9, 0.8, 0.85], [0.7])])
    assert row == [
        "SST-2",
        "accuracy",
        "85.0",
        "1e-05, batch 16, 3 epochs",
        "3",
        "160",
        "94.8",
        "96.4",
    ]
    assert len(row) == len(HEAD)


def test_two_scores_and_two_splits_are_both_shown():
    mrpc, mnli = task_rows([make_result("mrpc"), make_result("mnli")])
    assert mrpc[1:3] == ["accuracy / F1", "85.0 / 85.0"]
    assert mnli[1:3] == ["accuracy (matched, mismatched)", "85.0, 75.0"]


def test_every_trial_has_its_spread():
    rows = trial_rows(make_result("sst2", [0.9, 0.7], [0.5]))
    assert rows[0] == ["1e-05", "16", "3", "2", "80.0", "80.0", "14.1", "70.0", "90.0"]
    assert rows[1][-5:] == ["50.0", "50.0", "0.0", "50.0", "50.0"]
    assert len(rows[0]) == len(TRIAL_HEAD)


def test_the_average_is_over_tasks_with_the_mean_of_their_scores_and_splits():
    results = [make_result("mnli", [0.8]), make_result("cola", [0.5]), make_result("wnli", [0.0])]
    average = glue_average(results)
    assert average.value == pytest.approx((0.75 + 0.5) / 2)  # MNLI: 0.8 and 0.7.
    assert average.titles == ("MNLI", "CoLA") and average.without_wnli
    assert glue_average(results[2:]).titles == ("WNLI",)
    assert glue_average([make_result("race")]) is None


def test_the_average_says_what_it_is_over():
    results = [make_result(name, [0.5]) for name in ("sst2", "wnli", "rte")]
    text = markdown_table(results)
    assert "**Average: 50.0**" in text
    assert "over SST-2, RTE: 50.0" in text and "WNLI is left out" in text
    assert "Average" not in markdown_table(results[:1])
    assert "(RACE: on the test set)" in markdown_table([make_result("race")])


def test_the_published_figure_of_wnli_is_said_to_be_of_another_task():
    words = "the published figure is of another task"
    assert words in " ".join(remarks([make_result("rte"), make_result("wnli")]))
    assert words not in " ".join(remarks([make_result("rte")]))


def test_the_page_names_what_was_noted_and_started_from(tmp_path):
    result = make_result("sst2", notes=("mended.",), init_from="m", num_parameters=7)
    text = write_table(tmp_path, [result]).read_text()
    assert "SST-2: mended." in text
    assert "7 parameters, from m." in text
    assert "from random weights" in markdown_table([make_result("sst2")])


def test_a_threshold_that_was_chosen_on_the_scored_split_is_told():
    words = "was chosen on the dev split that is scored"
    result = make_result("squad2", [0.8])
    assert words not in " ".join(remarks([result]))
    (trial,) = result.trials
    seeds = tuple(dataclasses.replace(seed, no_answer_threshold=-0.5) for seed in trial.seeds)
    result = dataclasses.replace(result, trials=(dataclasses.replace(trial, seeds=seeds),))
    (remark,) = [remark for remark in remarks([result]) if words in remark]
    assert remark.startswith("SQuAD 2.0: ")


def test_figures_of_a_test_split_stand_apart_from_those_of_dev():
    scores = {"test": {"accuracy": 0.501, "high_accuracy": 0.25}}
    result = make_result("race", [0.9], test_scores=scores)
    text = markdown_table([result])
    assert "RACE, test (not used for any choice): accuracy 50.1, high 25.0; of the one" in text
    without = dataclasses.replace(result, test_scores={})
    assert task_rows([result]) == task_rows([without]) and "RACE, test" not in " ".join(
        remarks([without])
    )


def test_titles_of_a_user_do_not_break_the_table():
    task = Task(name="mine", title="a|b\n<i>*c*", kind="classification", labels=("x", "y"))
    lines = markdown_table([make_result(task=task)]).splitlines()
    (row,) = [line for line in lines if line.startswith("| a")]
    assert row.startswith(r"| a\|b \<i\>\*c\* |")
    assert row.replace(r"\|", "").count("|") == len(HEAD) + 1
