"""The numbers and settings that the tables show."""

import math

import pytest

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
