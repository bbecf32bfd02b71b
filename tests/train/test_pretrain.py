"""Whole runs: stop and resume is no stop, and what cannot be meant is refused."""

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from roberta_jax.data.loader import Loader
from roberta_jax.data.prepare import prepare
from roberta_jax.data.prepare_settings import PrepareSettings
from roberta_jax.data.records import open_dataset
from roberta_jax.data.tokenizer_folder import load_tokenizer
from roberta_jax.errors import INTERRUPTED, MachineError, UserError
from roberta_jax.train import pretrain as pretrain_module
from roberta_jax.train.pretrain import pretrain
from roberta_jax.train.workdir import locked, read_config
from tests.train import runs

LAST = 20


def interrupt():
    signal.raise_signal(signal.SIGINT)


def assert_same_run(workdir, reference, config, step=LAST):
    """The state bit for bit, the position in the data, and every line of the metrics."""
    state, record = runs.restored(workdir, step, config)
    wanted, wanted_record = runs.restored(reference, step, config)
    runs.assert_same_state(state, wanted)
    for name in ("examples_seen", "progress", "fingerprint", "data_fingerprint"):
        assert record[name] == wanted_record[name]
    assert runs.lines_of(workdir) == runs.lines_of(reference)


def next_batches(dataset, record, seed):
    loader = Loader(open_dataset(dataset, "train"), batch_size=16, seed=seed)
    with contextlib.closing(loader.batches(record["examples_seen"])) as batches:
        return [np.asarray(batch.index) for batch in itertools.islice(batches, 3)]


@pytest.mark.parametrize(
    "stops",
    [[7], [5], pytest.param([6, 10, 17], marks=pytest.mark.slow)],
    ids=["between lines", "at a checkpoint", "often"],
)
def test_stop_and_resume_is_no_stop(dataset, complete, tmp_path, monkeypatch, capsys, stops):
    config, workdir = runs.tiny_config(dataset), tmp_path / "run"
    for stop in stops:
        undo = runs.at_step(monkeypatch, stop, interrupt)
        assert pretrain(config, workdir) == INTERRUPTED
        assert runs.steps_of(workdir)[-1] == stop
        assert f"step {stop} is saved; the same command goes on" in capsys.readouterr().out
        undo()
    _, record = runs.restored(workdir, stops[-1], config)
    assert record["examples_seen"] == 16 * stops[-1]
    assert pretrain(config, workdir) == 0
    said = capsys.readouterr().out
    assert f"going on from step {stops[-1]} ({16 * stops[-1]} rows seen)" in said
    assert "changed since" not in said
    assert_same_run(workdir, complete, config)
    assert [(step, event) for step, event, _ in runs.events_of(workdir)] == [
        (stop, event) for stop in stops for event in ("interrupted", "resumed")
    ]
    assert runs.events_of(complete) == []


def test_the_batches_after_a_resume_are_the_ones_that_were_next(
    dataset, complete, tmp_path, monkeypatch
):
    config, seen = runs.tiny_config(dataset), []
    original = pretrain_module.placed_ahead

    def watched(batches, mesh, *, ahead):
        for batch in original(batches, mesh, ahead=ahead):
            seen.append(np.asarray(batch["index"]))
            yield batch

    monkeypatch.setattr(pretrain_module, "placed_ahead", watched)
    undo = runs.at_step(monkeypatch, 7, interrupt)
    assert pretrain(config, tmp_path / "run") == INTERRUPTED
    undo()
    _, record = runs.restored(tmp_path / "run", 7, config)
    wanted = next_batches(dataset, record, config.seed)
    del seen[:]
    assert pretrain(config, tmp_path / "run") == 0
    np.testing.assert_array_equal(seen[:3], wanted)
    _, record = runs.restored(complete, 5, config)
    before = next_batches(dataset, record, config.seed)
    np.testing.assert_array_equal(seen[0], before[2])  # Steps 6 and 7 took the first two.


def kill_after_step_ten(complete, target):
    """What a kill -9 after step 15 leaves: its checkpoint begun, lines beyond the one before."""
    workdir = runs.workdir_copy(complete, target)
    shutil.rmtree(workdir / "checkpoints" / "20")
    (workdir / "checkpoints" / "15" / "commit_success.txt").unlink()
    (workdir / "checkpoints" / "15" / "record" / "metadata").unlink()
    lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["step"] <= 15]
    assert json.loads(kept[-1])["step"] == 15
    (workdir / "metrics.jsonl").write_text("".join(kept) + lines[-2][:40])
    (workdir / ".metrics.jsonl.partial").write_text(lines[0][:10])
    return workdir


def test_a_killed_run_goes_on_from_the_last_whole_checkpoint(dataset, complete, tmp_path, capsys):
    config = runs.tiny_config(dataset)
    workdir = kill_after_step_ten(complete, tmp_path / "run")
    assert pretrain(config, workdir) == 0
    assert "going on from step 10" in capsys.readouterr().out
    assert runs.steps_of(workdir) == [5, 10, 15, 20]
    assert_same_run(workdir, complete, config)


def test_a_run_killed_before_its_first_checkpoint_begins_again(dataset, complete, tmp_path, capsys):
    config = runs.tiny_config(dataset)
    workdir = runs.workdir_copy(complete, tmp_path / "run")
    shutil.rmtree(workdir / "checkpoints")
    (workdir / "checkpoints" / "5").mkdir(parents=True)
    lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    (workdir / "metrics.jsonl").write_text("".join(lines[:3]))
    assert pretrain(config, workdir) == 0
    assert "going on" not in capsys.readouterr().out
    assert_same_run(workdir, complete, config)


def start_command(arguments, programs):
    """`roberta-jax` in a process of its own, on the devices of the tests."""
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(programs),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "roberta_jax.cli.main", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_the_process_does_not_change_the_run(dataset, programs, tmp_path, number):
    config = runs.tiny_config(
        dataset,
        train__duration="400 steps",
        train__evaluate_every_steps=0,
        train__log_every_steps=7,
        checkpoint__save_every_steps=30,
    )
    file = runs.write_config_file(tmp_path / "recipe.py", config)
    command = ["pretrain", f"--config={file}", f"--workdir={tmp_path / 'stopped'}"]
    with start_command(command, programs) as process:
        for line in process.stdout:  # At a whole line of the log the run is in its loop.
            if line.startswith("step "):
                break
        process.send_signal(number)
        said, complaints = process.communicate(timeout=600)
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == INTERRUPTED, complaints
        assert "is saved; the same command goes on from there" in said
        assert 0 < runs.steps_of(tmp_path / "stopped")[-1] < 400
    assert complaints == ""
    with start_command(command, programs) as process:
        _, complaints = process.communicate(timeout=600)
    assert (process.returncode, complaints) == (0, "")
    assert pretrain(config, tmp_path / "straight") == 0
    assert_same_run(tmp_path / "stopped", tmp_path / "straight", config, step=400)


def test_the_same_command_after_the_end_has_nothing_to_do(dataset, complete, tmp_path, capsys):
    workdir = runs.workdir_copy(complete, tmp_path / "run")
    assert pretrain(runs.tiny_config(dataset), workdir) == 0
    assert "nothing to do: the checkpoint has 20 of 20 steps" in capsys.readouterr().out
    assert_same_run(workdir, complete, runs.tiny_config(dataset))
    before = (workdir / "config.json").read_bytes()
    assert pretrain(runs.tiny_config(dataset, seed=4, train__duration="10 steps"), workdir) == 0
    assert "nothing to do: the checkpoint has 20 of 10 steps" in capsys.readouterr().out
    assert (workdir / "config.json").read_bytes() == before  # What no step was made with.


def test_a_workdir_is_complete_in_itself(dataset, complete):
    assert {path.name for path in complete.iterdir()} == {
        *("config.json", "metrics.jsonl", "checkpoints", "tensorboard", "tokenizer")
    }
    stored = read_config(complete)
    manifest = open_dataset(dataset, "train").manifest
    assert stored.encoder.vocab_size == manifest.tokenizer.vocab_size
    assert stored.data.tokenizer_fingerprint == manifest.tokenizer.fingerprint
    _, record = runs.restored(complete, LAST, stored)
    assert record["data_fingerprint"] == manifest.fingerprint


def test_the_record_has_the_lines_that_the_intervals_say(complete):
    lines = runs.lines_of(complete)
    steps = {
        kind: [line["step"] for line in lines if line["kind"] == kind]
        for kind in ("event", "train", "eval")
    }
    assert steps == {"event": [0], "train": [3, 6, 9, 12, 15, 18, 20], "eval": [5, 10, 15, 20]}
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    assert all(line["examples_seen"] == 16 * line["step"] for line in lines)
    assert lines[0]["event"] == "unigram_entropy" and 3 < lines[0]["nats"] < 5


# ---- --resume ----------------------------------------------------------------------------------


def refusal(config, workdir, kind=UserError, **options):
    """What a run says that is refused; it changes nothing."""
    before = sorted(workdir.rglob("*")) if workdir.exists() else None
    with pytest.raises(kind) as caught:
        pretrain(config, workdir, **options)
    assert type(caught.value) is kind
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".")
    assert (sorted(workdir.rglob("*")) if workdir.exists() else None) == before
    return text


@pytest.fixture
def no_compilation(monkeypatch):
    """Bad input is refused before the expensive part."""

    def fail(*arguments):
        raise AssertionError("it was about to compile")

    monkeypatch.setattr(pretrain_module, "make_programs", fail)


@pytest.mark.parametrize(
    ("resume", "message"),
    [
        ("never", "already has checkpoints (20 is the newest)"),
        ("7", "has no such checkpoint. It has: [5, 10, 15, 20]"),
        ("sometimes", "--resume=sometimes is not understood"),
        ("-1", "is not understood"),
    ],
)
def test_a_resume_that_cannot_be_meant_is_refused(
    dataset, complete, no_compilation, resume, message
):
    assert message in refusal(runs.tiny_config(dataset), complete, resume=resume)


@pytest.mark.parametrize(
    ("resume", "message"),
    [("must", "has no checkpoint"), ("5", "It has: none")],
)
def test_there_must_be_something_to_resume(dataset, tmp_path, no_compilation, resume, message):
    assert message in refusal(runs.tiny_config(dataset), tmp_path / "new", resume=resume)
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_must_goes_on_and_never_begins(dataset, complete, tmp_path, monkeypatch, capsys):
    config = runs.tiny_config(dataset)
    workdir = kill_after_step_ten(complete, tmp_path / "run")
    assert pretrain(config, workdir, resume="must") == 0
    assert_same_run(workdir, complete, config)
    assert pretrain(config, tmp_path / "new", resume="never") == 0
    assert_same_run(tmp_path / "new", complete, config)
    runs.at_step(monkeypatch, 7, interrupt)
    capsys.readouterr()
    assert pretrain(config, tmp_path / "newer", resume="never") == INTERRUPTED
    assert "the same command with --resume=auto" in capsys.readouterr().out


def test_a_restart_from_an_earlier_step_sets_later_checkpoints_aside(
    dataset, complete, tmp_path, capsys
):
    config, workdir = runs.tiny_config(dataset), runs.workdir_copy(complete, tmp_path / "run")
    assert pretrain(config, workdir, resume="10") == 0
    said = capsys.readouterr().out
    for step in (15, 20):
        name = f"{step}.superseded"
        assert f"restarting from step 10: a later checkpoint was set aside as {name}" in said
        assert (workdir / "checkpoints" / name).is_dir()
    events = [(step, event) for step, event, _ in runs.events_of(workdir)]
    assert events == [(10, "restarted"), (10, "restarted"), (10, "resumed")]
    assert runs.steps_of(workdir) == [5, 10, 15, 20]
    assert_same_run(workdir, complete, config)
    assert pretrain(config, workdir, resume="15") == 0
    assert (workdir / "checkpoints" / "20.superseded-1").is_dir()


def test_changed_settings_and_data_are_said(dataset, complete, tmp_path, capsys):
    workdir = runs.workdir_copy(complete, tmp_path / "run")
    config = runs.tiny_config(dataset, train__log_every_steps=4, data__num_read_threads=1)
    assert pretrain(config, workdir) == 0
    assert pretrain(config, workdir, resume="15") == 0
    said = capsys.readouterr().out
    assert "changed since the checkpoint: config.train.log_every_steps was 3, is 4" in said
    assert said.count("changed since the checkpoint: config.data.num_read_threads was 0") == 2
    assert "the dataset" not in said
    assert read_config(workdir).train.log_every_steps == 4
    longer = dataset.parent / "text.txt"
    (tmp_path / "more.txt").write_text(longer.read_text() + "\nThe wind came back.\n")
    prepare(
        inputs=[str(tmp_path / "more.txt")],
        tokenizer_folder=dataset.parent / "tokenizer",
        output=tmp_path / "dataset",
        settings=PrepareSettings(sequence_length=32, validation_fraction=0.1),
    )
    assert pretrain(runs.tiny_config(tmp_path / "dataset"), workdir) == 0
    assert "the order of the rows is another one from here on" in capsys.readouterr().out


# ---- Damage ------------------------------------------------------------------------------------


def test_a_run_goes_on_from_the_newest_good_checkpoint(dataset, complete, tmp_path, capsys):
    config, workdir = runs.tiny_config(dataset), runs.workdir_copy(complete, tmp_path / "run")
    runs.damage(workdir, 20)
    assert pretrain(config, workdir) == 0
    said = capsys.readouterr().out
    assert "is damaged" in said and "It was set aside as 20.damaged." in said
    assert "going on from step 15" in said
    assert_same_run(workdir, complete, config)
    (damaged, resumed) = runs.events_of(workdir)
    assert damaged[:2] == (15, "damaged") and "set aside as 20.damaged" in damaged[2]
    assert resumed[:2] == (15, "resumed")


def test_damaged_checkpoints_are_never_a_fresh_start(dataset, complete, tmp_path, capsys):
    config, workdir = runs.tiny_config(dataset), runs.workdir_copy(complete, tmp_path / "run")
    lines = runs.lines_of(workdir)
    for step in runs.steps_of(workdir):
        runs.damage(workdir, step)
    steps = runs.steps_of(workdir)
    for resume in ("auto", "must"):
        with pytest.raises(UserError, match="This is not a fresh start"):
            pretrain(config, workdir, resume=resume)
    assert runs.steps_of(workdir) == steps
    assert "has checkpoints" in refusal(config, workdir, resume="never")
    assert "already has checkpoints" in refusal(config, workdir, init_from=str(complete))
    assert runs.lines_of(workdir) == lines


@pytest.mark.slow
def test_the_command_that_began_from_other_weights_goes_on(dataset, complete, tmp_path, capsys):
    config, workdir = runs.tiny_config(dataset, train__duration="10 steps"), tmp_path / "run"
    again = {"init_from": str(complete)}
    assert pretrain(config, workdir, **again) == 0
    assert f"starting from the weights of {complete}, step 20" in capsys.readouterr().out
    longer = runs.tiny_config(dataset, train__duration="12 steps")
    assert pretrain(longer, workdir, **again) == 0
    said = capsys.readouterr().out
    assert "going on from step 10" in said and "starting from" not in said
    text = refusal(longer, workdir, init_from=str(complete.parent))
    assert f"of a run that did not begin with {complete.parent}" in text


def test_a_damaged_step_that_was_asked_for_is_refused(dataset, complete, tmp_path):
    config, workdir = runs.tiny_config(dataset), runs.workdir_copy(complete, tmp_path / "run")
    runs.damage(workdir, 10)
    with pytest.raises(UserError, match=r"10 is damaged: "):
        pretrain(config, workdir, resume="10")
    assert runs.steps_of(workdir) == [5, 10, 15, 20]


def test_lost_checkpoints_are_never_a_fresh_start(dataset, complete, tmp_path, no_compilation):
    workdir = runs.workdir_copy(complete, tmp_path / "run")
    shutil.rmtree(workdir / "checkpoints")
    text = refusal(runs.tiny_config(dataset), workdir)
    assert "has the record of 20 steps and no checkpoint" in text


# ---- --init_from -------------------------------------------------------------------------------


def test_a_run_can_begin_with_the_weights_of_another(dataset, complete, tmp_path, monkeypatch):
    config = runs.tiny_config(dataset)
    runs.at_step(monkeypatch, 1, interrupt)
    assert pretrain(config, tmp_path / "run", init_from=str(complete)) == INTERRUPTED
    assert pretrain(config, tmp_path / "fresh") == INTERRUPTED
    state, record = runs.restored(tmp_path / "run", 1, config)
    fresh, _ = runs.restored(tmp_path / "fresh", 1, config)
    source, _ = runs.restored(complete, LAST, config)
    assert state[".step"] == 1 and record["examples_seen"] == 16
    for path in source:
        if path.startswith(".params"):
            # One step with the rate of the first step of warm-up moves no weight by more than that.
            assert np.abs(state[path] - source[path]).max() <= 2.6e-4
    kernel = ".params['layers']['mlp']['up']['kernel']"
    assert np.abs(state[kernel] - fresh[kernel]).max() > 1e-3
    moments = [path for path in state if "mu" in path and "up" in path and "kernel" in path]
    assert moments
    for path in moments:  # First moments of one step, not those of 20.
        assert np.abs(state[path]).max() < np.abs(source[path]).max()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder__num_layers": 1}, "encoder.num_layers is 2 there and 1 in this run"),
        ({"encoder__mlp_size": 64}, "encoder.mlp_size is 32 there and 64"),
        ({"encoder__layer_norm_epsilon": 1e-6}, "encoder.layer_norm_epsilon"),
    ],
)
def test_weights_of_another_shape_are_refused(
    dataset, complete, tmp_path, no_compilation, change, message
):
    config = runs.tiny_config(dataset, **change)
    assert message in refusal(config, tmp_path / "new", init_from=str(complete))
    assert message in refusal(config, complete)  # The same for the run's own workdir.
    assert not (tmp_path / "new").exists()


def test_several_differences_are_named_together(dataset, complete, no_compilation):
    config = runs.tiny_config(dataset, encoder__num_layers=1, encoder__num_heads=4)
    text = refusal(config, complete)
    assert "holds another model" in text and "num_layers" in text and "num_heads" in text


def test_weights_must_be_there_and_the_run_new(dataset, complete, tmp_path, no_compilation):
    config = runs.tiny_config(dataset)
    assert "is not a workdir" in refusal(config, tmp_path / "new", init_from=str(tmp_path / "x"))
    assert "--init_from begins a new run" in refusal(config, complete, init_from=str(complete))
    empty = tmp_path / "empty"
    empty.mkdir()
    shutil.copy(complete / "config.json", empty)
    text = refusal(config, tmp_path / "new", init_from=str(empty))
    assert "holds no complete checkpoint" in text


# ---- Bad input: refused before anything is compiled or written --------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data__path": ""}, "config.data.path is empty"),
        ({"data__path": "nowhere"}, "nowhere is no prepared dataset"),
        ({"data__sequence_length": 16}, "has rows of 32 tokens, and config.data.sequence_length"),
        ({"encoder__vocab_size": 301}, "a tokenizer of 300 entries, and config.encoder.vocab"),
        ({"data__tokenizer_fingerprint": "0" * 16}, "asks for 0000000000000000"),
        ({"train__batch_size": 12}, "cannot be split over 8 devices"),
        (
            {"train__num_microbatches": 4},
            "A batch of 16 rows in 4 microbatches cannot be split over 8 devices",
        ),
        ({"mesh__tensor": 3}, "does not fill the 8 visible devices"),
        ({"mesh__data": 2, "mesh__fsdp": 2}, "does not fill the 8 visible devices"),
        (
            {"mesh__data": 1, "mesh__fsdp": 8, "encoder__hidden_size": 12},
            "cannot split the weights",
        ),
        (
            {"mesh__data": 1, "mesh__tensor": 8},
            "mesh.tensor=8 does not divide encoder.num_heads=2",
        ),
        (
            {
                "encoder__attention_implementation": "cudnn",
                "encoder__attention_dropout_rate": 0.0,
            },
            "needs an NVIDIA GPU",
        ),
        ({"encoder__num_heads": 3}, "a divisor of encoder.hidden_size=16"),
        ({"train__duration": "4 steps"}, "4 of the 4 steps that the schedule has"),
        ({"train__duration": "many"}, "config.train.duration is 'many'; it must be a number with"),
        ({"train__batch_size": "many"}, "must be of type int"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_happens(
    dataset, tmp_path, monkeypatch, no_compilation, change, message
):
    monkeypatch.chdir(tmp_path)
    config = runs.tiny_config(dataset, **change)
    assert message in refusal(config, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_dataset_without_training_rows_is_refused(tmp_path, no_compilation):
    dataset = runs.make_dataset(tmp_path / "data")
    manifest = json.loads((dataset / "manifest.json").read_text())
    manifest["splits"]["train"] |= {"rows": 0, "shards": []}
    (dataset / "manifest.json").write_text(json.dumps(manifest))
    text = refusal(runs.tiny_config(dataset), tmp_path / "new")
    assert "has no training rows" in text
    assert not (tmp_path / "new").exists()


def test_a_workdir_trained_with_another_tokenizer_is_refused(complete, tmp_path, no_compilation):
    other = runs.make_dataset(tmp_path / "data", seed=1)
    text = refusal(runs.tiny_config(other), complete)
    assert "holds another model: data.tokenizer_fingerprint is" in text


def test_a_workdir_that_is_something_else_is_refused(dataset, tmp_path, no_compilation):
    (tmp_path / "file").write_text("")
    config = runs.tiny_config(dataset)
    assert "is a file" in refusal(config, tmp_path / "file")
    assert "cannot be made: Not a directory" in refusal(config, tmp_path / "file" / "run")
    assert "is a prepared dataset" in refusal(config, dataset)


def test_checkpoints_without_their_config_are_refused(dataset, complete, tmp_path, no_compilation):
    workdir = runs.workdir_copy(complete, tmp_path / "run")
    (workdir / "config.json").unlink()
    assert "has no config.json" in refusal(runs.tiny_config(dataset), workdir)
    (workdir / "config.json").write_text("{")
    assert "cannot be read" in refusal(runs.tiny_config(dataset), workdir)


@pytest.mark.parametrize("folder", ["gs://bucket/run", "s3://bucket/run"])
def test_a_folder_that_is_not_local_is_refused(
    dataset, tmp_path, monkeypatch, no_compilation, folder
):
    monkeypatch.chdir(tmp_path)
    config = runs.tiny_config(dataset)
    for given, workdir in ((config, folder), (runs.tiny_config(folder), tmp_path / "new")):
        with pytest.raises(UserError, match=r"is not local\."):
            pretrain(given, workdir)
    with pytest.raises(UserError, match=r"is not local\."):
        pretrain(config, tmp_path / "new", init_from=folder)
    assert list(tmp_path.iterdir()) == []


def test_a_workdir_in_which_another_process_runs_is_refused(dataset, complete, tmp_path):
    workdir = runs.workdir_copy(complete, tmp_path / "run")
    with locked(workdir):
        assert "Another process is running in" in refusal(runs.tiny_config(dataset), workdir)
    assert pretrain(runs.tiny_config(dataset), workdir) == 0


def test_a_run_begun_again_on_other_data_keeps_the_tokenizer_of_that_data(
    dataset, tmp_path, monkeypatch
):
    other, workdir = runs.make_dataset(tmp_path / "data", seed=1), tmp_path / "run"

    def fail(*arguments, **options):
        raise RuntimeError("before the first checkpoint")

    with monkeypatch.context() as context, pytest.raises(RuntimeError):
        context.setattr(pretrain_module, "run_loop", fail)
        pretrain(runs.tiny_config(dataset), workdir)
    first = load_tokenizer(workdir / "tokenizer").fingerprint
    runs.at_step(monkeypatch, 1, interrupt)
    assert pretrain(runs.tiny_config(other), workdir) == INTERRUPTED
    kept = load_tokenizer(workdir / "tokenizer").fingerprint
    assert kept == open_dataset(other, "train").manifest.tokenizer.fingerprint != first
    assert read_config(workdir).data.tokenizer_fingerprint == kept


def test_memory_that_runs_out_is_one_paragraph(dataset, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    monkeypatch.setattr(pretrain_module, "run_loop", fail)
    with pytest.raises(MachineError, match=r"microbatch has 16 rows .* train.num_microbatches"):
        pretrain(runs.tiny_config(dataset), tmp_path / "run")


def catches_sigterm(pid):
    (caught,) = re.findall(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.M)
    return int(caught, 16) >> (signal.SIGTERM - 1) & 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("seconds", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_first_step_ends_the_process_at_once(
    dataset, programs, tmp_path, number, seconds
):
    file = runs.write_config_file(tmp_path / "recipe.py", runs.tiny_config(dataset))
    command = ["pretrain", f"--config={file}", f"--workdir={tmp_path / 'run'}"]
    with start_command([*command, "--config.train.duration=100000steps"], programs) as process:
        while not catches_sigterm(process.pid):  # Python itself has not started before.
            time.sleep(0.01)
        time.sleep(seconds)
        process.send_signal(number)
        _, complaints = process.communicate(timeout=20)
    assert process.returncode == INTERRUPTED, complaints
    assert complaints in ("roberta-jax: interrupted\n", "")  # "" where it was in its loop.


# ---- Divergence --------------------------------------------------------------------------------


def test_a_run_that_diverges_ends_and_keeps_the_good_checkpoints(dataset, complete, tmp_path):
    workdir = runs.workdir_copy(complete, tmp_path / "run")
    config = runs.tiny_config(
        dataset,
        optimizer__peak_learning_rate=1e38,
        train__log_every_steps=19,
        train__evaluate_every_steps=0,
        checkpoint__save_every_steps=3,
        checkpoint__keep_last=1,
    )
    with pytest.raises(MachineError, match=r"the run has diverged. Lower optimizer.peak") as caught:
        pretrain(config, workdir, resume="5")
    assert caught.value.exit_code == 1
    # Nothing that is not a number was saved: the run can be restarted from what is left.
    for step in runs.steps_of(workdir):
        state, _ = runs.restored(workdir, step, config)
        assert all(np.isfinite(leaf).all() for leaf in state.values() if leaf.dtype == np.float32)
    runs.lines_of(workdir)  # Each is strict JSON.
    (*_, (_, event, message)) = runs.events_of(workdir)
    assert event == "diverged" and message == str(caught.value)


@pytest.mark.slow
def test_a_mixture_of_datasets_resumes_like_one(dataset, tmp_path, monkeypatch):
    (tmp_path / "text.txt").write_text(runs.make_text(seed=5))
    other = tmp_path / "other"
    prepare(
        inputs=[str(tmp_path / "text.txt")],
        tokenizer_folder=dataset / "tokenizer",
        output=other,
        settings=PrepareSettings(sequence_length=runs.SEQUENCE_LENGTH, validation_fraction=0.1),
        say=lambda line: None,
    )
    config = runs.tiny_config(f"{dataset},{other}", data__weights="3,1", train__duration="8 steps")
    assert pretrain(config, tmp_path / "whole") == 0
    undo = runs.at_step(monkeypatch, 5, interrupt)
    assert pretrain(config, tmp_path / "run") == INTERRUPTED
    undo()
    assert pretrain(config, tmp_path / "run") == 0
    assert_same_run(tmp_path / "run", tmp_path / "whole", config, step=8)
    config = runs.tiny_config(f"{dataset},{other}", data__weights="3")
    with pytest.raises(UserError, match="must be 2 positive numbers"):
        pretrain(config, tmp_path / "third")
    assert not (tmp_path / "third").exists()
