"""The demo: every chapter of the path, skipped where its result is there, stopped and gone on."""

import contextlib
import io
import json
import re
import shlex
import signal

import pytest

from roberta_jax import demo
from roberta_jax.cli.main import main
from roberta_jax.data import embedded
from roberta_jax.errors import INTERRUPTED
from tests.train import runs
from tests.train.fixtures import programs  # noqa: F401


@pytest.fixture(scope="module")
def small():
    """The same path over less text, with a smaller model and fewer steps."""

    def write_corpus(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(runs.make_text())

    config = runs.tiny_config(data__sequence_length=64, encoder__max_positions=64)
    with pytest.MonkeyPatch.context() as context:
        context.setattr(embedded, "write_embedded_corpus", write_corpus)
        context.setattr(demo, "demo_config", lambda: config)
        context.setattr(demo, "VOCAB_SIZE", runs.VOCAB_SIZE)
        yield


def go(folder):
    """(exit code, what the demo says, what its training says)."""
    lines, training = [], io.StringIO()
    with contextlib.redirect_stdout(training):
        code = demo.run_demo(folder, say=lines.append)
    return code, "\n".join(lines), training.getvalue()


@pytest.fixture(scope="module")
def finished(small, programs, tmp_path_factory):  # noqa: F811
    """(folder, what the demo says, what its training says); another demo there changes nothing."""
    folder = tmp_path_factory.mktemp("demo")
    code, said, training = go(folder)
    assert code == 0
    return folder, said, training


def made(folder):
    """What must not be made again, with the time at which it was made."""
    kept = ("corpus.txt", "tokenizer/*", "dataset/*", "dataset/tokenizer/*", "run/checkpoints/20")
    paths = [path for pattern in kept for path in folder.glob(pattern)]
    assert len(paths) > 10
    return {path: path.stat().st_mtime_ns for path in paths}


def test_the_demo_goes_the_whole_path_and_says_what_it_does(finished):
    folder, said, training = finished
    assert [int(number) for number in re.findall(r"^\[(\d)/6\]", said, re.M)] == [1, 2, 3, 4, 5, 6]
    assert (folder / "run" / "report.html").stat().st_size > 10_000
    assert "done: 20 steps" in training

    manifest = json.loads((folder / "dataset" / "manifest.json").read_text())
    entropy = manifest["splits"]["train"]["unigram_entropy_nats"]
    assert f"Guessing by word frequency alone has a loss of {entropy:.2f} nats." in said
    assert f"nats (word frequency alone: {entropy:.2f})" in said
    for sentence in demo.SENTENCES:
        guesses = re.search(rf"^  {re.escape(sentence)}\n      (.*)$", said, re.M)[1]
        assert len(re.findall(r"\d+%", guesses)) == 5


def test_a_second_demo_makes_nothing_again(finished):
    folder, first, _ = finished
    before, record = made(folder), (folder / "run" / "metrics.jsonl").read_text()
    code, second, training = go(folder)
    assert code == 0
    assert made(folder) == before
    assert (folder / "run" / "metrics.jsonl").read_text() == record
    assert "is there already" in second and second.count("there is nothing to do") == 2
    assert "nothing to do: the checkpoint has 20 of 20 steps" in training
    asked = [text.split("[5/6]")[1].split("\n", 1)[1].split("[6/6]")[0] for text in (first, second)]
    assert asked[0] == asked[1]


def test_the_commands_that_it_prints_do_what_it_did(finished, capsys):
    folder, said, _ = finished
    commands = [shlex.split(line) for line in re.findall(r"\$ roberta-jax (.*)$", said, re.M)]
    verbs = ["tokenizer", "prepare", "pretrain", "fill-mask", "report"]
    assert [verb for verb, *_ in commands] == verbs
    before = made(folder)
    for command in commands:
        capsys.readouterr()
        assert main(command) == 0, command
        if command[0] in verbs[:3]:
            assert "nothing to do" in capsys.readouterr().out, command
    assert made(folder) == before


def test_an_interrupted_demo_goes_on(small, tmp_path, monkeypatch):
    undo = runs.at_step(monkeypatch, 7, lambda: signal.raise_signal(signal.SIGINT))
    code, said, _ = go(tmp_path)
    assert code == INTERRUPTED and "[5/6]" not in said
    undo()
    code, _, training = go(tmp_path)
    assert code == 0 and "going on from step 7" in training


@pytest.mark.slow
def test_the_model_of_the_demo_learns_the_embedded_text(tmp_path):
    code, said, _ = go(tmp_path)
    assert code == 0
    loss, entropy, accuracy = re.search(
        r"loss ([\d.]+) nats \(word frequency alone: ([\d.]+)\), (\d+)% of the masked", said
    ).groups()
    assert float(loss) < float(entropy) - 1.8
    assert int(accuracy) >= 24
    # Frequent words of this text, each where it is the obvious answer.
    for sentence, answer in (
        (demo.SENTENCES[2], "default"),
        (demo.SENTENCES[3], "of"),
        (demo.SENTENCES[4], "array"),
    ):
        assert re.search(rf"^  {re.escape(sentence)}\n.*\b{answer} \d+%", said, re.M), said
