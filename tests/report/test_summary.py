"""The numbers and settings that the tables show."""

import json
import math

import pytest

from roberta_jax import config as config_module
from roberta_jax.report import summary
from roberta_jax.report.metrics import read_metrics
from tests.report.workdirs import make_config, make_lines, write_workdir


def rows_of(rows):
    return {row.label: row.values for row in rows}


def test_result_rows_hold_the_numbers_of_the_run(tmp_path):
    lines = [
        {"kind": "train", "step": 10, "examples_seen": 320, "loss_nats": 5.0, "seconds": 30.0},
        {"kind": "eval", "step": 10, "loss_nats": 4.0, "perplexity": math.exp(4)},
        {"kind": "train", "step": 20, "examples_seen": 640, "loss_nats": 3.21, "seconds": 75.0},
        {"kind": "eval", "step": 20, "loss_nats": 4.5, "perplexity": math.exp(4.5)},
    ]
    rows = rows_of(summary.result_rows([read_metrics(write_workdir(tmp_path / "run", lines))]))
    assert rows["steps"] == ("20",)
    assert rows["rows seen"] == ("640",)
    assert rows["tokens seen"] == (f"{640 * 128:,}",)
    assert rows["training loss, last (nats)"] == ("3.21",)
    assert rows["evaluation loss, last (nats)"] == ("4.5",)
    assert rows["evaluation loss, best (nats)"] == ("4 at step 10",)
    assert rows["wall time"] == ("1 min 15 s",)
    assert "tokens per second, median" not in rows  # The run did not record it.


def test_setting_rows_name_the_run_and_leave_out_what_a_config_lacks(tmp_path):
    folder = write_workdir(tmp_path / "run", make_lines(num_steps=20))
    rows = rows_of(summary.setting_rows([read_metrics(folder)]))
    assert rows["encoder"] == ("4 layers × 256, 4 heads",)
    assert rows["batch"] == ("32 rows × 128 tokens",)
    (folder / "config.json").write_text('{"seed": 7}')
    rows = rows_of(summary.setting_rows([read_metrics(folder)]))
    assert rows["seed"] == ("7",)
    assert summary.ABSENT in rows["encoder"][0] or "encoder" not in rows


def test_setting_rows_say_how_long_and_how_fast_a_run_learns(tmp_path):
    config = make_config(
        train__duration="2e9 tokens", schedule__warmup="6%", optimizer__kind="lamb"
    )
    rows = setting_rows_of(tmp_path, config_module.to_dict(config))
    assert rows["length"] == "2e9 tokens"
    assert rows["optimizer"] == "lamb"
    assert rows["learning rate"] == "0.0006, warm-up 6%, linear"


def test_setting_rows_go_through_the_phases(tmp_path):
    config = make_config(
        train__duration="",
        phases=(
            config_module.PhaseConfig(
                duration="7038 steps", batch_size=65_536, peak_learning_rate=6e-3, warmup="28.43%"
            ),
            config_module.PhaseConfig(
                duration="1563 steps", sequence_length=512, peak_learning_rate=4e-3, warmup="12.8%"
            ),
        ),
    )
    values = config_module.to_dict(config)
    rows = setting_rows_of(tmp_path, values)
    assert rows["length"] == "7038 steps + 1563 steps"
    assert rows["batch"] == (
        "65,536 rows × 128 tokens for 7038 steps, then 32 rows × 512 tokens for 1563 steps"
    )
    assert rows["learning rate"] == "0.006, warm-up 28.43%, then 0.004, warm-up 12.8%, linear"
    values["phases"][0]["peak_learning_rate"] = 0.0
    rows = setting_rows_of(tmp_path, values)
    assert rows["learning rate"].startswith("0.0006, warm-up 24000 steps, then 0.004, warm-up")


def test_the_config_of_an_older_version_is_understood(tmp_path):
    values = {
        "train": {"num_steps": 4000, "batch_size": 32},
        "data": {"sequence_length": 128},
        "optimizer": {"peak_learning_rate": 1.5e-3, "warmup_steps": 300},
    }
    rows = setting_rows_of(tmp_path, values)
    assert rows["length"] == "4000 steps"
    assert rows["batch"] == "32 rows × 128 tokens"
    assert rows["learning rate"] == "0.0015, warm-up 300 steps"


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"train": None, "optimizer": [], "schedule": 3, "data": "a"},
        {"phases": None, "train": {"batch_size": "many", "duration": None}},
        {"phases": [{}, 3, {"duration": 5}], "data": {"sequence_length": [1]}},
        {"phases": {"first": {}}, "seed": [{"a": 1}]},
    ],
    ids=str,
)
def test_a_config_of_any_form_is_shown(tmp_path, values):
    setting_rows_of(tmp_path, values)
    run = read_metrics(tmp_path / "run")
    assert summary.result_rows([run]) and (not values or summary.config_rows([run]))


def test_next_sentence_accuracy_is_that_of_the_evaluation_or_else_of_training(tmp_path):
    lines = [
        {"kind": "train", "step": 10, "loss_nats": 5.0, "next_sentence_accuracy": 0.75},
        {"kind": "eval", "step": 10, "loss_nats": 4.0, "next_sentence_accuracy": 0.5},
    ]
    label = "next-sentence accuracy, last"
    for name, count, shown in (("trained", 1, "75.0%"), ("evaluated", 2, "50.0%")):
        run = read_metrics(write_workdir(tmp_path / name, lines[:count]))
        assert rows_of(summary.result_rows([run]))[label] == (shown,)


def setting_rows_of(tmp_path, values):
    """The texts of one run whose config.json holds `values`."""
    folder = tmp_path / "run"
    if not folder.exists():
        write_workdir(folder, make_lines(num_steps=20))
    (folder / "config.json").write_text(json.dumps(values))
    rows = summary.setting_rows([read_metrics(folder)])
    return {row.label: row.values[0] for row in rows}


def test_config_rows_cover_every_field_and_know_which_differ(tmp_path):
    runs = [
        read_metrics(write_workdir(tmp_path / name, make_lines(num_steps=20), config))
        for name, config in (
            ("a", make_config()),
            ("b", make_config(optimizer__peak_learning_rate=1e-3)),
        )
    ]
    rows = summary.config_rows(runs)
    assert {row.label for row in rows} == set(summary.flatten(runs[0].config))
    assert [row for row in rows if row.differs()] == [
        summary.Row("optimizer.peak_learning_rate", ("0.0006", "0.001"))
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (12_345, "12,345"),
        (8_192_000, "8,192,000"),
        (81_900_000, "81.9 million"),
        (2_097_152_000, "2.1 billion"),
        (2.2e12, "2.2 trillion"),
        (math.nan, summary.ABSENT),
    ],
)
def test_counts_are_readable_at_every_size(value, text):
    assert summary.count(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "0.5 s"),
        (59.9, "1 min 00 s"),
        (75, "1 min 15 s"),
        (3725, "1 h 02 min"),
        (90_000, "1 d 01 h"),
        (math.nan, summary.ABSENT),
    ],
)
def test_durations_are_readable_at_every_size(seconds, text):
    assert summary.duration(seconds) == text
