"""Reading a workdir: what counts, what is left out, what is refused."""

import math

import pytest

from roberta_jax.errors import UserError
from roberta_jax.report.metrics import read_metrics, read_runs
from tests.report.workdirs import make_config, make_lines, write_workdir


def append(folder, text):
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(text)


def test_lines_are_sorted_into_training_evaluation_and_events(tmp_path):
    run = read_metrics(write_workdir(tmp_path / "a", make_lines(num_steps=500, log_every=10)))
    assert (len(run.train), len(run.evaluation), len(run.events)) == (50, 2, 2)
    steps, losses = run.series("eval", "loss_nats")
    assert list(steps) == [250, 500] and losses[1] < losses[0]
    assert run.unigram_entropy_nats() == 6.31
    assert run.name == "a" and run.notes == []


def test_a_half_written_last_line_is_left_out_with_a_note(tmp_path):
    folder = write_workdir(tmp_path / "killed", make_lines(num_steps=100))
    whole = read_metrics(folder)
    append(folder, '{"step": 110, "kind": "train", "loss_na')
    run = read_metrics(folder)
    assert run.train == whole.train
    assert len(run.notes) == 1 and "half-written" in run.notes[0]


def test_a_half_written_character_is_left_out_too(tmp_path):
    folder = write_workdir(tmp_path / "killed", make_lines(num_steps=100))
    with open(folder / "metrics.jsonl", "ab") as file:
        file.write('{"kind": "event", "step": 1, "message": "é'.encode()[:-1])
    assert "half-written" in read_metrics(folder).notes[0]


@pytest.mark.parametrize("line", ["not json", "[1, 2]", '{"kind": "train"}', '{"step": 1}'])
def test_a_line_that_is_no_metrics_line_is_named_by_its_number(tmp_path, line):
    folder = write_workdir(tmp_path / "odd", make_lines(num_steps=20))
    append(folder, line + "\n" + '{"kind": "train", "step": 30, "loss_nats": 5.0}\n')
    run = read_metrics(folder)
    assert run.notes == ["Line 5 of metrics.jsonl is not a metrics line and was left out."]
    assert run.train[-1]["step"] == 30


def test_values_that_are_not_finite_are_not_in_a_series(tmp_path):
    lines = [
        {"kind": "train", "step": step, "loss_nats": loss}
        for step, loss in ((1, 2.0), (2, math.nan), (3, math.inf), (4, None), (5, True))
    ]
    run = read_metrics(write_workdir(tmp_path / "diverged", lines))
    assert list(run.series("train", "loss_nats")[0]) == [1]
    assert run.last("train", "loss_nats") == 2.0
    assert math.isnan(run.last("train", "absent"))


def test_a_series_can_be_over_the_rows_seen(tmp_path):
    lines = [
        {"kind": "train", "step": 1, "loss_nats": 5.0, "examples_seen": 64},
        {"kind": "train", "step": 2, "loss_nats": 4.0},
        {"kind": "train", "step": 3, "loss_nats": 3.0, "examples_seen": 192},
    ]
    run = read_metrics(write_workdir(tmp_path / "run", lines))
    rows, losses = run.series("train", "loss_nats", "examples_seen")
    assert (list(rows), list(losses)) == ([64, 192], [5.0, 3.0])
    assert list(run.series("train", "loss_nats")[0]) == [1, 2, 3]


def test_wall_time_adds_the_sessions_of_a_resumed_run(tmp_path):
    seconds = [10.0, 20.0, 5.0, 15.0]  # The second session began after 20 s.
    lines = [
        {"kind": "train", "step": step, "loss_nats": 1.0, "seconds": value}
        for step, value in enumerate(seconds)
    ]
    assert read_metrics(write_workdir(tmp_path / "resumed", lines)).seconds() == 35.0


def test_a_config_of_another_version_can_be_read(tmp_path):
    folder = write_workdir(tmp_path / "old")
    (folder / "config.json").write_text('{"train": {"a_field_of_long_ago": 1}}')
    assert read_metrics(folder).config == {"train": {"a_field_of_long_ago": 1}}


def refusal(call, *arguments):
    with pytest.raises(UserError) as caught:
        call(*arguments)
    text = str(caught.value)
    assert "\n" not in text and text.endswith((".", "=FOLDER."))
    return text


def test_what_cannot_be_read_is_refused_with_what_to_do(tmp_path):
    assert "does not exist" in refusal(read_metrics, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "is not a workdir" in refusal(read_metrics, tmp_path / "empty")
    assert "has no metrics.jsonl yet" in refusal(read_metrics, without_metrics(tmp_path))
    assert "no training or evaluation line" in refusal(
        read_metrics, write_workdir(tmp_path / "fresh", [])
    )
    damaged = write_workdir(tmp_path / "damaged")
    (damaged / "config.json").write_text("{")
    assert "is damaged" in refusal(read_metrics, damaged)
    (damaged / "config.json").write_text("[]")
    assert "is damaged" in refusal(read_metrics, damaged)


def without_metrics(tmp_path):
    folder = write_workdir(tmp_path / "started")
    (folder / "metrics.jsonl").unlink()
    return folder


def test_several_runs_have_different_names(tmp_path):
    folders = [
        write_workdir(tmp_path / name, make_lines(num_steps=20), make_config())
        for name in ("x/run", "y/run", "other")
    ]
    names = [run.name for run in read_runs(folders)]
    assert names == [str(folders[0]), str(folders[1]), "other"]


def test_no_workdir_and_the_same_workdir_twice_are_refused(tmp_path):
    folder = write_workdir(tmp_path / "run", make_lines(num_steps=20))
    assert "No workdir" in refusal(read_runs, [])
    assert "twice" in refusal(read_runs, [folder, tmp_path / "." / "run"])
