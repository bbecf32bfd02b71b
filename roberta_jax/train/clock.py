"""The time that steps take, without what happens between them."""

import contextlib
import dataclasses
import time
from collections.abc import Generator


@dataclasses.dataclass
class Clock:
    """Time and steps since the last log line, pauses left out."""

    began: float = dataclasses.field(default_factory=time.monotonic)
    steps: int = 0

    def restart(self) -> None:
        """Begins to count anew."""
        self.began, self.steps = time.monotonic(), 0

    @contextlib.contextmanager
    def paused(self) -> Generator[None]:
        """Leaves out the time of the block."""
        pause = time.monotonic()
        yield
        self.began += time.monotonic() - pause
