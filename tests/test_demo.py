"""The demo: every chapter of the path, skipped where its result is there, stopped and gone on."""

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

RESULTS = ("corpus.txt", "tokenizer", "dataset", "run")


@pytest.fixture
def small(monkeypatch):
    """The same path over less text, with a smaller model and fewer steps."""

    def write_corpus(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(runs.make_text())

    config = runs.tiny_config(data__sequence_length=64, encoder__max_positions=64)
    monkeypatch.setattr(embedded, "write_embedded_corpus", write_corpus)
    monkeypatch.setattr(demo, "demo_config", lambda: config)
    monkeypatch.setattr(demo, "VOCAB_SIZE", runs.VOCAB_SIZE)


def go(folder):
    lines = []
    return demo.run_demo(folder, say=lines.append), "\n".join(lines)


def modified(folder):
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for name in RESULTS[:3]
        for path in [folder / name, *(folder / name).rglob("*")]
    }


def test_the_demo_goes_the_whole_path_and_says_what_it_does(small, tmp_path, capsys):
    code, said = go(tmp_path)
    assert code == 0
    assert [int(number) for number in re.findall(r"^\[(\d)/6\]", said, re.M)] == [1, 2, 3, 4, 5, 6]
    assert all((tmp_path / name).exists() for name in RESULTS)
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert "done: 20 steps" in capsys.readouterr().out

    manifest = json.loads((tmp_path / "dataset" / "manifest.json").read_text())
    entropy = manifest["splits"]["train"]["unigram_entropy_nats"]
    assert f"Guessing by word frequency alone has a loss of {entropy:.2f} nats." in said
    assert f"nats (word frequency alone: {entropy:.2f})" in said
    for sentence in demo.SENTENCES:
        guesses = re.search(rf"^  {re.escape(sentence)}\n      (.*)$", said, re.M)[1]
        assert len(re.findall(r"\d+%", guesses)) == 5


def test_a_second_demo_repeats_nothing_but_the_predictions(small, tmp_path, capsys):
    _, first = go(tmp_path)
    before, record = modified(tmp_path), (tmp_path / "run" / "metrics.jsonl").read_text()
    capsys.readouterr()
    code, second = go(tmp_path)
    assert code == 0
    assert modified(tmp_path) == before
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == record
    assert "is there already" in second and second.count("there is nothing to do") == 2
    assert "nothing to do: the checkpoint has 20 of 20 steps" in capsys.readouterr().out
    asked = [text.split("[5/6]")[1].split("\n", 1)[1].split("[6/6]")[0] for text in (first, second)]
    assert asked[0] == asked[1]


def test_an_interrupted_demo_goes_on(small, tmp_path, monkeypatch, capsys):
    undo = runs.at_step(monkeypatch, 7, lambda: signal.raise_signal(signal.SIGINT))
    code, said = go(tmp_path)
    assert code == INTERRUPTED and "[5/6]" not in said
    undo()
    capsys.readouterr()
    assert go(tmp_path)[0] == 0
    assert "going on from step 7" in capsys.readouterr().out


def test_the_commands_that_it_prints_do_what_it_did(small, tmp_path, capsys):
    _, said = go(tmp_path)
    commands = [shlex.split(line) for line in re.findall(r"\$ roberta-jax (.*)$", said, re.M)]
    verbs = ["tokenizer", "prepare", "pretrain", "fill-mask", "report"]
    assert [verb for verb, *_ in commands] == verbs
    before = modified(tmp_path)
    for command in commands:
        capsys.readouterr()
        assert main(command) == 0, command
        if command[0] in verbs[:3]:
            assert "nothing to do" in capsys.readouterr().out, command
    assert modified(tmp_path) == before


@pytest.mark.slow
def test_the_model_of_the_demo_learns_the_embedded_text(tmp_path):
    code, said = go(tmp_path)
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
