"""Watches over a dict in place of jax's coordination service, and over real aborts."""

import subprocess
import sys
import threading
import time

import pytest

from roberta_jax.parallel.watch import Watch

HOSTS = ["a", "b", "c"]


class Store:
    """The key-value store; a process that is gone has no Watch."""

    def __init__(self):
        self.values, self.broken = {}, False

    def key_value_set(self, key, value, allow_overwrite=False):
        if self.broken:
            raise RuntimeError("UNAVAILABLE: Socket\n closed")
        assert allow_overwrite or key not in self.values
        self.values[key] = value

    def key_value_dir_get(self, prefix):
        return [(key, value) for key, value in self.values.items() if key.startswith(prefix)]


class Leaving:
    """The reason for which a process leaves, when there is one."""

    def __init__(self):
        self.reasons, self.there = [], threading.Event()

    def __call__(self, reason):
        self.reasons.append(reason)
        self.there.set()


@pytest.fixture
def watches():
    store, made = Store(), []

    def make(process_id, *, timeout=1.0):
        leaving = Leaving()
        watch = Watch(
            store, process_id=process_id, hosts=HOSTS, timeout_seconds=timeout, leave=leaving
        )
        made.append(watch)
        return watch, leaving

    yield store, make
    for watch in made:
        watch.stop()


def test_processes_that_hear_each_other_stay(watches):
    _, make = watches
    all_of_them = [make(number, timeout=5) for number in range(3)]
    time.sleep(6)
    assert all(not leaving.reasons for _, leaving in all_of_them)


def test_one_that_falls_silent_is_named_by_all(watches):
    _, make = watches
    (first, first_leaves), (_, second_leaves), (third, _) = (
        make(number, timeout=3) for number in range(3)
    )
    time.sleep(0.5)
    third.stop()
    began = time.monotonic()
    assert first_leaves.there.wait(20) and second_leaves.there.wait(20)
    assert time.monotonic() - began > 2
    # By itself or from the other, each knows which one it was.
    for leaving in (first_leaves, second_leaves):
        (reason,) = leaving.reasons
        assert reason.endswith("process 2 on c was not heard of for 3.0 s")


def test_one_that_never_began_is_silent_too(watches):
    _, make = watches
    _, leaving = make(1, timeout=0.5)
    assert leaving.there.wait(20)
    assert leaving.reasons == ["process 0 on a, process 2 on c were not heard of for 0.5 s"]


def test_one_that_stops_says_why(watches):
    _, make = watches
    (_, first_leaves), (second, _), _ = (make(number, timeout=10) for number in range(3))
    began = time.monotonic()
    second.tell("the disk is full")
    assert first_leaves.there.wait(10)
    assert time.monotonic() - began < 8  # Much sooner than it would be missed.
    assert first_leaves.reasons == ["process 1 on b stopped: the disk is full"]


def test_without_the_first_process_there_is_no_connection(watches):
    store, make = watches
    _, leaving = make(2, timeout=0.5)
    store.broken = True
    assert leaving.there.wait(10)
    assert "process 0 on a, which connects the others, does not answer" in leaving.reasons[0]
    assert "UNAVAILABLE: Socket closed" in leaving.reasons[0]


def test_suspicion_shortens_the_silence(watches):
    _, make = watches
    (first, first_leaves), (_, _), (third, _) = (make(number, timeout=8) for number in range(3))
    time.sleep(1)
    third.stop()
    began = time.monotonic()
    first.suspect()
    assert first_leaves.there.wait(20) and time.monotonic() - began < 7
    assert first_leaves.reasons == ["process 2 on c was not heard of for 1.6 s"]


ABORTING = """
import ctypes, threading, time
from roberta_jax.parallel.watch import Watch
from tests.parallel.test_watch import Store

watch = Watch(Store(), process_id=1, hosts=["a", "b", "c"], timeout_seconds=1000)
watch.advise("Run it again.")
threading.Thread(target=ctypes.CDLL(None).abort).start()  # As jax's threads do.
time.sleep(60)
"""


def test_an_abort_is_explained_and_is_a_failure():
    done = subprocess.run(
        [sys.executable, "-c", ABORTING], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.startswith(
        "roberta-jax: process 1 on b ends: a library aborted this process"
    )
    assert done.stderr.endswith("Run it again.\n")
