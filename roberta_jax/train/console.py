"""What a person sees while it runs: a live line on a terminal, plain lines in a log."""

import sys
import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text


def duration(seconds: float) -> str:
    """Seconds as "42 s", "3 min 20 s", "5 h 02 min" or "12 d 3 h"."""
    seconds = round(max(seconds, 0))
    if seconds < 60:
        return f"{seconds} s"
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def train_line(entry: dict[str, Any], num_steps: int, seconds_left: float) -> str:
    """One line of progress from an entry of the metrics record."""
    parts = [
        f"step {entry['step']:,}/{num_steps:,}",
        f"loss {entry['loss_nats']:.4f} nats",
        f"perplexity {entry['perplexity']:,.2f}",
        f"accuracy {entry['masked_accuracy']:.1%}",
        f"lr {entry['learning_rate']:.2e}",
        f"gradient norm {entry['gradient_norm']:.2f}",
        f"{entry['tokens_per_second']:,.0f} tokens/s",
    ]
    if "next_sentence_accuracy" in entry:
        parts.insert(4, f"next sentence {entry['next_sentence_accuracy']:.1%}")
    if "updates_skipped" in entry:
        parts.append(f"{entry['updates_skipped']:,} updates left out")
    if "peak_share" in entry:
        parts.append(f"{entry['peak_share']:.1%} of peak")
    return " | ".join([*parts, f"{duration(seconds_left)} left"])


class RunConsole:
    """Prints lines, and keeps one live line at the bottom where the output is a terminal."""

    def __init__(self, *, speaks: bool = True) -> None:
        """Writes to standard output; of several processes, one speaks."""
        self._speaks = speaks
        self._console = Console(highlight=False, soft_wrap=True, file=sys.stdout)
        self._live: Live | None = None
        self._last_plain = -float("inf")

    def __enter__(self) -> "RunConsole":
        """Starts the live line."""
        if self._speaks and self._console.is_terminal:
            self._live = Live(Text(""), console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the live line."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, line: str) -> None:
        """Prints a line that stays."""
        if self._speaks:
            self._console.print(line, markup=False)

    def progress(self, line: str, *, lasting: bool) -> None:
        """Shows the newest progress: live on a terminal, else a line of its own.

        Args:
          line: what to show.
          lasting: keep it in the terminal's history as well.
        """
        if self._live is None:
            # A log of a fast run stays readable: at most one line a second.
            if lasting or time.monotonic() - self._last_plain > 1:
                self._last_plain = time.monotonic()
                self.say(line)
            return
        if lasting:
            self.say(line)
        self._live.update(Text(line), refresh=True)
