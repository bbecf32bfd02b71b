"""Time of steps, without pauses."""

import types

from roberta_jax.train import clock as clock_module
from roberta_jax.train.clock import Clock


def test_a_pause_is_left_out_and_a_restart_begins_anew(monkeypatch):
    now = [10.0]
    monkeypatch.setattr(clock_module, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    clock = Clock(began=10.0, steps=3)
    now[0] = 12.0
    with clock.paused():
        now[0] = 17.0
    now[0] = 18.0
    assert now[0] - clock.began == 3 and clock.steps == 3
    clock.restart()
    assert (clock.began, clock.steps) == (18.0, 0)
