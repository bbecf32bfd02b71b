"""The record of a run: every line once, and always JSON."""

import json
import math
import subprocess
import sys

import pytest
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import RecordWriter

from roberta_jax.errors import UserError
from roberta_jax.train.metrics import MetricsLog, read_lines


def write(workdir, steps, after_step=-1):
    with MetricsLog(workdir, after_step=after_step) as log:
        for step in steps:
            log.write("train", step=step, examples_seen=16 * step, loss_nats=1.0 / step)


def steps_in(workdir):
    return [line["step"] for line in read_lines(workdir / "metrics.jsonl")]


def tensorboard_events(workdir):
    """Events of all files, in the order of their names."""
    assert RecordWriter  # The format that is read here: length, its checksum, data, its checksum.
    events = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        assert path.name.startswith("events.out.tfevents.")
        content = path.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            events.append(event_pb2.Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return events


def scalars(workdir):
    return {
        (value.tag, event.step): value.simple_value
        for event in tensorboard_events(workdir)
        for value in event.summary.value
    }


def test_a_line_has_its_place_before_its_values(tmp_path):
    with MetricsLog(tmp_path, after_step=-1) as log:
        log.write("eval", step=3, examples_seen=48, loss_nats=2.5, num_predictions=7)
        text = (tmp_path / "metrics.jsonl").read_text()  # It is there at once.
    assert text == (
        '{"step": 3, "kind": "eval", "examples_seen": 48, "loss_nats": 2.5, "num_predictions": 7}\n'
    )


def test_lines_that_will_be_written_again_are_dropped(tmp_path):
    write(tmp_path, range(1, 11))
    write(tmp_path, range(7, 13), after_step=6)
    assert steps_in(tmp_path) == list(range(1, 13))


def test_a_new_run_keeps_no_line_and_one_resumed_at_its_beginning_keeps_those(tmp_path):
    with MetricsLog(tmp_path, after_step=-1) as log:
        log.write("event", step=0, examples_seen=0, event="unigram_entropy", nats=3.0)
    write(tmp_path, [1], after_step=0)
    assert steps_in(tmp_path) == [0, 1]
    write(tmp_path, [1], after_step=-1)
    assert steps_in(tmp_path) == [1]


@pytest.mark.parametrize("rest", ['{"step": 11, "kind": "tr', "{", '{"step": 11}', "\0\0\0"])
def test_a_last_line_cut_short_by_a_kill_is_dropped(tmp_path, rest):
    write(tmp_path, range(1, 11))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(rest)
    write(tmp_path, [11], after_step=10)
    assert steps_in(tmp_path) == list(range(1, 12))


@pytest.mark.parametrize("line", ["not JSON", "7", '{"kind": "train"}', '{"step": "1"}'])
def test_a_broken_line_in_the_middle_is_named(tmp_path, line):
    write(tmp_path, [1, 2])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(f"{line}\n")
    write_again = pytest.raises(UserError, match=r"metrics.jsonl line 3 is not JSON .* mend or")
    with write_again:
        MetricsLog(tmp_path, after_step=2)
    assert (tmp_path / "metrics.jsonl").read_text().endswith(f"{line}\n")


def test_the_file_is_replaced_whole(tmp_path):
    write(tmp_path, [1, 2])
    before = (tmp_path / "metrics.jsonl").stat().st_ino
    write(tmp_path, [2], after_step=1)
    assert (tmp_path / "metrics.jsonl").stat().st_ino != before
    assert not list(tmp_path.glob(".*.partial"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_lacks_is_null(tmp_path, value, caplog):
    with MetricsLog(tmp_path, after_step=-1) as log:
        log.write("train", step=1, examples_seen=16, loss_nats=value, gradient_norm=1.0)
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()

    def refuse(constant):
        raise AssertionError(constant)

    assert json.loads(line, parse_constant=refuse)["loss_nats"] is None
    assert scalars(tmp_path) == {("train/gradient_norm", 1): 1.0}
    assert not caplog.records


def test_old_lines_with_nan_become_null_on_resume(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "kind": "train", "loss_nats": NaN}\n')
    write(tmp_path, [2], after_step=1)
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


def test_tensorboard_has_the_same_scalars(tmp_path):
    with MetricsLog(tmp_path, after_step=-1) as log:
        log.write("event", step=0, examples_seen=0, event="unigram_entropy", nats=3.0)
        log.write("train", step=2, examples_seen=32, loss_nats=2.5, learning_rate=0.25)
        log.write("eval", step=2, examples_seen=32, loss_nats=2.75, num_predictions=9)
    assert scalars(tmp_path) == {
        ("train/loss_nats", 2): 2.5,
        ("train/learning_rate", 2): 0.25,
        ("eval/loss_nats", 2): 2.75,
    }


def test_tensorboard_hides_what_is_written_again_and_keeps_earlier_sessions(tmp_path):
    write(tmp_path, [1, 2, 3, 4])
    write(tmp_path, [3, 4, 5], after_step=2)  # In the same second, too.
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2
    starts = [event.step for event in tensorboard_events(tmp_path) if event.HasField("session_log")]
    assert starts == [0, 3]
    assert set(scalars(tmp_path)) == {("train/loss_nats", step) for step in range(1, 6)}


FULL_DISK = """
import pathlib, resource, sys
from roberta_jax.train.metrics import MetricsLog

log = MetricsLog(pathlib.Path(sys.argv[1]), after_step=-1)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
try:
    for step in range(10_000):
        log.write("train", step=step, examples_seen=step, a=1.5)
except OSError as error:
    print(error.strerror)
"""


def test_a_disk_that_is_full_is_an_error_and_no_endless_wait(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "File too large\n"
    assert "Thread" not in done.stderr


def test_what_happens_to_a_run_is_an_event_with_a_message(tmp_path):
    with MetricsLog(tmp_path, after_step=-1) as log:
        log.note("resumed", "going on", step=3, examples_seen=48)
    (line,) = read_lines(tmp_path / "metrics.jsonl")
    assert line == {
        "step": 3,
        "kind": "event",
        "examples_seen": 48,
        "event": "resumed",
        "message": "going on",
    }
    assert scalars(tmp_path) == {}


def test_a_log_that_is_rewound_keeps_what_came_before_and_every_rollback(tmp_path):
    with MetricsLog(tmp_path, after_step=-1) as log:
        for step in (1, 2, 3):
            log.write("train", step=step, examples_seen=step, loss_nats=float(step))
        log.note("skipped", "left out", step=3, examples_seen=3)
        log.rewind(1)
        log.note("rolled_back", "first", step=2, examples_seen=3)
        log.write("train", step=2, examples_seen=4, loss_nats=2.5)
        log.rewind(1)
        log.note("rolled_back", "second", step=2, examples_seen=4)
        log.write("train", step=2, examples_seen=5, loss_nats=2.25)
    lines = read_lines(tmp_path / "metrics.jsonl")
    found = [line.get("message", line.get("loss_nats")) for line in lines]
    assert found == [1.0, "first", "second", 2.25]
    # A run that is stopped now and goes on from step 1 meets both again.
    with MetricsLog(tmp_path, after_step=1):
        pass
    assert [line["step"] for line in read_lines(tmp_path / "metrics.jsonl")] == [1]
