"""How far a pass over the input is: a live line in a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import TextIO

PLAIN_LINE_SECONDS = 5.0
LIVE_LINE_SECONDS = 0.2


class Progress:
    """Shows the share of the stored bytes that is done, the rate and the time left.

    Use as a context manager.
    """

    def __init__(self, label: str, total_bytes: int, *, stream: TextIO | None = None):
        """`total_bytes` is the size of the input as stored.

        `stream` is standard error unless given.
        """
        self._label, self._total_bytes = label, total_bytes
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._start = self._last_shown = time.monotonic()

    def __enter__(self) -> "Progress":
        if self._live:
            from rich.console import Console
            from rich.live import Live

            self._display = Live(
                console=Console(file=self._stream), auto_refresh=False, transient=True
            )
            self._display.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self._display.stop()

    def update(self, done_bytes: int, text_bytes: int, detail: str) -> None:
        """Shows the state, if it is time again.

        Args:
          done_bytes: of the input as stored, so compressed bytes of compressed files.
          text_bytes: uncompressed text so far; the rate is of these.
          detail: more counts, for example "12,000 documents".
        """
        now = time.monotonic()
        if now - self._last_shown < (LIVE_LINE_SECONDS if self._live else PLAIN_LINE_SECONDS):
            return
        self._last_shown = now
        elapsed = now - self._start
        share = min(done_bytes / max(self._total_bytes, 1), 1.0)
        left = f"{_clock(elapsed * (1 - share) / share)} left" if share > 0 else "time left unknown"
        line = (
            f"{self._label}  {share:4.0%}  {text_bytes / 1e6 / elapsed:.1f} MB/s  {detail}  {left}"
        )
        if self._live:
            from rich.text import Text

            self._display.update(Text(line), refresh=True)
        else:
            print(line, file=self._stream, flush=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
