"""What a person sees while it runs."""

import io
import sys

import pytest

from roberta_jax.train import console as console_module
from roberta_jax.train.console import RunConsole, duration, train_line

ENTRY = {
    "step": 1500,
    "loss_nats": 2.34567,
    "perplexity": 10.437,
    "masked_accuracy": 0.4567,
    "learning_rate": 6e-4,
    "gradient_norm": 0.5,
    "tokens_per_second": 12345.6,
}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (18_120, "5 h 02 min"),
        (47 * 3600 + 59 * 60, "47 h 59 min"),
        (48 * 3600, "2 d 0 h"),
        (12 * 86_400 + 3 * 3600, "12 d 3 h"),
    ],
)
def test_durations_are_what_a_person_would_say(seconds, text):
    assert duration(seconds) == text


def test_a_line_of_progress_has_every_figure_with_its_unit():
    assert train_line(ENTRY, 20_000, 3700) == (
        "step 1,500/20,000 | loss 2.3457 nats | perplexity 10.44 | accuracy 45.7% | lr 6.00e-04 | "
        "gradient norm 0.50 | 12,346 tokens/s | 1 h 01 min left"
    )
    assert "| 41.2% of peak |" in train_line({**ENTRY, "peak_share": 0.412}, 20_000, 1)


def test_a_log_has_at_most_one_line_a_second_and_every_lasting_one(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(console_module.time, "monotonic", lambda: now[0])
    with RunConsole() as console:
        for tenth in range(31):
            now[0] = 100 + tenth / 10
            console.progress(f"at {tenth}", lasting=tenth == 5)
    assert capsys.readouterr().out.split("\n") == ["at 0", "at 5", "at 16", "at 27", ""]


def test_a_log_is_plain_text_in_long_lines(capsys):
    with RunConsole() as console:
        console.say("[red]config.train.path[/red] is " + "x" * 300)
    assert capsys.readouterr().out == "[red]config.train.path[/red] is " + "x" * 300 + "\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_one_line_lives_and_only_lasting_ones_stay(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    for name, value in (("TERM", "xterm"), ("COLUMNS", "200"), ("LINES", "50")):
        monkeypatch.setenv(name, value)
    with RunConsole() as console:
        console.progress("first", lasting=False)
        console.progress("second", lasting=False)
        console.say("a checkpoint")
        console.progress("last", lasting=True)
    shown = terminal.getvalue()
    assert "first" in shown and "second" in shown and "\x1b[" in shown
    assert "a checkpoint\n" in shown and "last\n" in shown
    assert "first\n" not in shown
