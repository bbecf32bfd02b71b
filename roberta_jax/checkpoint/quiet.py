"""Silence about what orbax leaves behind when a read fails: the failure itself is reported."""

import dataclasses
import gc
import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any


def collect_quietly() -> None:
    """Ends the tasks that a failed read of orbax leaves behind, which would complain later."""
    ignore_closed_loops()
    complain, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
    asyncio_log = logging.getLogger("asyncio")
    silent, asyncio_log.disabled = asyncio_log.disabled, True
    try:
        with warnings.catch_warnings(action="ignore"):
            gc.collect()
    finally:
        asyncio_log.disabled = silent
        sys.unraisablehook = complain


def ignore_closed_loops() -> None:
    """After one array has failed, those still under way find orbax's event loop closed."""
    if not isinstance(sys.unraisablehook, _ComplainOfOthers):
        sys.unraisablehook = _ComplainOfOthers(sys.unraisablehook)


@dataclasses.dataclass(frozen=True)
class _ComplainOfOthers:
    """A hook for errors that nobody can catch, silent about orbax's closed event loop."""

    before: Callable[[Any], Any]

    def __call__(self, unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            self.before(unraisable)
