"""Ends this process, with a line that says why, when another one of the run is gone.

A process that dies leaves the others in a collective that never ends, or in an abort inside jax's
coordination service. So every process says regularly, through that service, that it is alive; one
that is silent for too long, or that said why it stopped, ends the others.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

# How often a process is heard within the time after which it counts as gone.
_BEATS = 20
# Silence, in beats, that is suspicious once a collective has failed.
_SUSPICIOUS_BEATS = 4
# What a process needs to end once it has said why.
_LEAVING_SECONDS = 1.0
_ALIVE, _STOPPED = "roberta_jax/alive/", "roberta_jax/stopped/"


class Watch:
    """A thread that says that this process is alive, and listens to the others."""

    def __init__(
        self,
        client: Any,
        *,
        process_id: int,
        hosts: list[str],
        timeout_seconds: float,
        leave: Callable[[str], None] | None = None,
    ):
        """Starts at once.

        Args:
          client: of jax's coordination service, with its key-value store.
          process_id: of this process.
          hosts: of all processes, by number.
          timeout_seconds: silence after which a process counts as gone.
          leave: called with the reason, in this thread; None prints it and ends the process.
        """
        self._client, self._hosts = client, hosts
        self._process_id, self._timeout = process_id, timeout_seconds
        self._beat = timeout_seconds / _BEATS
        self._leave = leave or self._end
        self._advice = ""
        now = time.monotonic()
        self._heard = {number: ("", now) for number in range(len(hosts)) if number != process_id}
        self._stop, self._suspicious = threading.Event(), threading.Event()
        self._ending = threading.Lock()
        self._abort_handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._aborted)
        if leave is None:
            # What jax aborts for is explained as well. The handler runs in the thread that called
            # abort(), which is in no signal-unsafe place: it is an ordinary call.
            ctypes.CDLL(None).signal(signal.SIGABRT, self._abort_handler)
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def advise(self, text: str) -> None:
        """What the user can do when a process is gone, a sentence."""
        self._advice = text

    def stop(self) -> None:
        """Ends the watching: from here on, processes end as they like."""
        self._stop.set()
        self._thread.join()
        ctypes.CDLL(None).signal(signal.SIGABRT, None)

    def tell(self, reason: str) -> None:
        """Tells the others that this process stops, and why.

        They are connected through the first process, so it returns there when they have stopped
        too, or had the time to.
        """
        self._stop.set()
        deadline = time.monotonic() + 2 * self._beat
        with contextlib.suppress(Exception):  # Then they will miss its heartbeats.
            self._client.key_value_set(f"{_STOPPED}{self._process_id}", reason)
            while self._process_id == 0 and time.monotonic() < deadline:
                time.sleep(min(self._beat, _LEAVING_SECONDS) / 4)
                if len(self._client.key_value_dir_get(_STOPPED)) == len(self._hosts):
                    time.sleep(_LEAVING_SECONDS)
                    return

    def suspect(self) -> None:
        """Returns when no other process turned out to be gone; something has failed here."""
        self._suspicious.set()
        deadline = time.monotonic() + self._beat * (_SUSPICIOUS_BEATS + 2)
        while time.monotonic() < deadline and not self._stop.is_set():
            time.sleep(self._beat / 4)

    def _run(self) -> None:
        count = 0
        while not self._stop.wait(self._beat):
            count += 1
            try:
                self._client.key_value_set(
                    f"{_ALIVE}{self._process_id}", str(count), allow_overwrite=True
                )
                alive = dict(self._client.key_value_dir_get(_ALIVE))
                stopped = dict(self._client.key_value_dir_get(_STOPPED))
            except Exception as error:  # Of many kinds: what the service's connection raises.
                if not self._stop.is_set():
                    self._leave(
                        f"{self._name(0)}, which connects the others, does not answer "
                        f"({' '.join(str(error).split())[:100]})"
                    )
                return
            reason = self._gone(alive, stopped)
            # What stopped another may be about to stop this one, which then says it itself.
            if reason and not self._stop.wait(2 * _LEAVING_SECONDS):
                self.tell(reason)
                self._leave(reason)
                return

    def _gone(self, alive: dict[str, str], stopped: dict[str, str]) -> str:
        now = time.monotonic()
        for key, value in alive.items():
            number = int(key.rpartition("/")[2])
            if number in self._heard and self._heard[number][0] != value:
                self._heard[number] = (value, now)
        for key, value in stopped.items():
            number = int(key.rpartition("/")[2])
            if number != self._process_id:
                return f"{self._name(number)} stopped: {value}"
        limit = self._beat * _SUSPICIOUS_BEATS if self._suspicious.is_set() else self._timeout
        silent = [self._name(n) for n, (_, heard) in self._heard.items() if now - heard > limit]
        if not silent:
            return ""
        verb = "was" if len(silent) == 1 else "were"
        return f"{', '.join(silent)} {verb} not heard of for {limit:,.1f} s"

    def _name(self, number: int) -> str:
        return f"process {number} on {self._hosts[number]}"

    def _aborted(self, number: int) -> None:
        del number
        number, (_, heard) = min(self._heard.items(), key=lambda item: item[1][1])
        silent = time.monotonic() - heard
        self._end(
            "a library aborted this process, as happens when another one is gone; the one that was "
            f"not heard of for longest is {self._name(number)}, {silent:,.1f} s"
        )

    def _end(self, reason: str) -> None:
        if not self._ending.acquire(blocking=False):
            time.sleep(60)  # The other thread ends the process.
        text = f"roberta-jax: {self._name(self._process_id)} ends: {reason}. {self._advice}"
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os.write(2, f"{text.rstrip()}\n".encode())
        os._exit(1)
