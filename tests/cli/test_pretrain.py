"""roberta-jax pretrain, from the command line to the exit code."""

import signal

import pytest

from roberta_jax.cli.main import main
from roberta_jax.train import pretrain as pretrain_module
from tests.train import runs


@pytest.fixture
def recipe(tmp_path, dataset):
    return write(tmp_path, dataset)


def write(tmp_path, dataset, **changes):
    return runs.write_config_file(tmp_path / "recipe.py", runs.tiny_config(dataset, **changes))


def command(recipe, workdir, *flags):
    return main(["pretrain", f"--config={recipe}", f"--workdir={workdir}", *flags])


def paragraph(capsys):
    error = capsys.readouterr().err
    assert error.startswith("roberta-jax: ") and error.count("\n") == 1
    return error


def test_a_run_is_interrupted_and_goes_on_by_the_same_command(
    recipe, complete, tmp_path, monkeypatch, capfd
):
    workdir = tmp_path / "run"
    undo = runs.at_step(monkeypatch, 7, lambda: signal.raise_signal(signal.SIGINT))
    assert command(recipe, workdir) == 130
    undo()
    assert command(recipe, workdir) == 0
    assert runs.lines_of(workdir) == runs.lines_of(complete)
    said = capfd.readouterr()
    assert "going on from step 7" in said.out and "done: 20 steps" in said.out
    assert said.err == "", "nothing but the lines of the run: no warning of a library"


def test_the_flags_reach_the_run(recipe, monkeypatch):
    seen = {}

    def pretrain(config, workdir, **options):
        seen.update(options, workdir=workdir, duration=config.train.duration)
        return 7

    monkeypatch.setattr(pretrain_module, "pretrain", pretrain)
    flags = ("--resume=must", "--init_from=other", "--config.train.duration=99 steps")
    assert command(recipe, "a", *flags) == 7
    assert callable(seen.pop("make_probe"))
    assert seen == {
        "resume": "must",
        "init_from": "other",
        "workdir": "a",
        "duration": "99 steps",
    }


def test_explain_tells_and_writes_nothing(recipe, tmp_path, capsys):
    workdir = tmp_path / "new"
    assert command(recipe, workdir, "--explain") == 0
    said = capsys.readouterr().out
    assert "in all      20 steps, 320 rows, 10,240 tokens" in said
    assert not workdir.exists()
    assert main(["pretrain", f"--config={recipe}", "--explain"]) == 0  # No workdir is needed.
    assert capsys.readouterr().out == said
    assert command(recipe, workdir, "--explain", "--config.schedule.warmup=99 steps") == 2
    assert "99 of the 20 steps" in capsys.readouterr().err


def bad_dataset(folder, **options):
    return f"--config.data.path={runs.make_dataset(folder / 'other', **options)}"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.data.path=nowhere", "nowhere is no prepared dataset"),
        ("--config.data.path=", "config.data.path is empty"),
        ("--config.encoder.vocab_size=301", "a tokenizer of 300 entries"),
        ("--config.data.tokenizer_fingerprint=0123456789abcdef", "asks for 0123456789abcdef"),
        ("--config.data.sequence_length=16", "has rows of 32 tokens"),
        ("--config.train.batch_size=12", "cannot be split over 8 devices"),
        ("--config.train.num_microbatchs=2", "Did you mean --config.train.num_microbatches"),
        ("--config.schedule.warmup=50 steps", "50 of the 20 steps that the schedule has"),
        ("--config.schedule.warmup=100%", "20 of the 20 steps that the schedule has"),
        ("--config.train.num_microbatches=3", "a divisor of train.batch_size=16"),
        ("--config.masking.num_slots=4", "config.masking.num_slots is 4; it must be 0, or from 5"),
        ("--config.encoder.next_sentence_head=true", "has no pairs of segments"),
        ("--config.mesh.tensor=3", "does not fill the 8 visible devices"),
        ("--resume=must", "has no checkpoint"),
        ("--resume=5", "It has: none"),
        ("--resume=perhaps", "is not understood"),
        ("--init_from=nowhere", "nowhere is not a workdir"),
    ],
)
def test_bad_input_is_one_paragraph_and_leaves_nothing(recipe, tmp_path, capsys, flag, message):
    assert command(recipe, tmp_path / "new", flag) == 2
    assert message in paragraph(capsys)
    assert not (tmp_path / "new").exists()


def test_a_workdir_of_another_model_is_refused_naming_the_fields(recipe, complete, capsys):
    before = sorted(complete.rglob("*"))
    assert command(recipe, complete, "--config.encoder.num_layers=3") == 2
    assert "encoder.num_layers is 2 there and 3 in this run" in paragraph(capsys)
    assert sorted(complete.rglob("*")) == before


def test_a_run_that_diverges_exits_with_1(dataset, tmp_path, capsys):
    recipe = write(tmp_path, dataset, optimizer__peak_learning_rate=1e38)
    assert command(recipe, tmp_path / "run") == 1
    assert "the run has diverged. Lower optimizer.peak_learning_rate" in paragraph(capsys)
    runs.lines_of(tmp_path / "run")  # Each is strict JSON.


def test_a_full_disk_exits_with_1_and_names_the_last_good_checkpoint(
    recipe, complete, tmp_path, monkeypatch, capsys
):
    from orbax.checkpoint import CheckpointManager

    workdir = runs.workdir_copy(complete, tmp_path / "run")

    def refuse(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CheckpointManager, "save", refuse)
    assert command(recipe, workdir, "--resume=10") == 1
    text = paragraph(capsys)
    assert (
        "No space left on device" in text and "The last good checkpoint is that of step 10" in text
    )
    assert runs.steps_of(workdir) == [5, 10]
