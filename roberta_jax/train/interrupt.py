"""SIGINT and SIGTERM as a wish to stop: the step in hand ends and the state is saved."""

import signal
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class InterruptWish:
    """A `with` block in which the first signal only sets `requested`; a second one acts at once."""

    def __init__(self) -> None:
        """Not requested yet."""
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "InterruptWish":
        """Takes over the signals."""
        # The command line may have a thread that ends the process at a signal; not from here on.
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        """Gives the signals back."""
        self._restore()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
