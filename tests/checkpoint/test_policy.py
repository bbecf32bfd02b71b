"""Which checkpoints stay."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax.checkpoint.policy import steps_to_keep
from roberta_jax.config import CheckpointConfig


def keep(steps, losses=(), **settings):
    return sorted(steps_to_keep(steps, CheckpointConfig(**settings), dict(losses)))


def test_the_last_ones_stay():
    assert keep([10, 20, 30, 40], keep_last=2, keep_best=0) == [30, 40]
    assert keep([10], keep_last=3, keep_best=0) == [10]
    assert keep([], keep_last=3) == []


def test_every_so_many_steps_one_stays_for_good():
    steps = range(10, 110, 10)
    assert keep(steps, keep_last=1, keep_every_steps=30, keep_best=0) == [30, 60, 90, 100]


def test_the_best_ones_by_evaluation_stay():
    losses = {10: 3.0, 20: 2.0, 30: 2.5, 50: 9.0}
    steps = [10, 20, 30, 40, 50]
    assert keep(steps, losses, keep_last=1, keep_best=1) == [20, 50]
    assert keep(steps, losses, keep_last=1, keep_best=2) == [20, 30, 50]
    assert keep(steps, losses, keep_last=1, keep_best=9) == [10, 20, 30, 50]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_a_number_is_not_the_best(loss):
    losses = {10: loss, 20: 2.0, 30: loss}
    assert keep([10, 20, 30, 40], losses, keep_last=1, keep_best=1) == [20, 40]
    assert keep([10, 40], losses, keep_last=1, keep_best=1) == [40]


def test_the_order_in_which_steps_are_listed_does_not_matter():
    assert keep([40, 10, 30, 20], keep_last=2, keep_best=0) == [30, 40]


@given(
    steps=st.lists(st.integers(0, 200), unique=True),
    losses=st.dictionaries(st.integers(0, 200), st.floats()),
    last=st.integers(1, 5),
    every=st.integers(0, 7),
    best=st.integers(0, 4),
)
def test_what_stays_is_what_the_settings_say(steps, losses, last, every, best):
    settings = CheckpointConfig(keep_last=last, keep_every_steps=every, keep_best=best)
    kept = steps_to_keep(steps, settings, losses)
    assert kept <= set(steps)
    assert set(sorted(steps)[-last:]) <= kept
    if every:
        assert {step for step in steps if step % every == 0} <= kept
    evaluated = [step for step in steps if math.isfinite(losses.get(step, math.nan))]
    for step in set(evaluated) - kept:  # At least `best` others are as good.
        as_good = [other for other in evaluated if losses[other] <= losses[step]]
        assert len(set(as_good) & kept) >= best
    by_other_rules = set(sorted(steps)[-last:]) | {s for s in steps if every and s % every == 0}
    assert len(kept - by_other_rules) <= best
