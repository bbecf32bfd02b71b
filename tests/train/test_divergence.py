"""Spikes and skips: what stands out, and what doesn't."""

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from roberta_jax.config import DivergenceConfig
from roberta_jax.errors import MachineError
from roberta_jax.train.divergence import observe
from roberta_jax.train.progress import Progress

CONFIG = DivergenceConfig(spike_window_steps=20, spike_z_score=10.0, max_skips_in_a_row=2)


def spikes_in(losses, config=CONFIG, progress=None):
    """Spikes found in losses from step 1 on; None is an update that was left out."""
    progress = progress or Progress(step=0, rows_seen={})
    found = []
    for loss in losses:
        progress.step += 1
        value = math.nan if loss is None else loss
        spike = observe(config, progress, value, applied=loss is not None)
        found += [spike] if spike else []
    return found


def noisy(count, *, level=5.0, noise=0.05, seed=0):
    source = np.random.Generator(np.random.Philox(key=seed))
    return (level + noise * source.standard_normal(count)).tolist()


def test_a_loss_far_above_the_ones_before_is_a_spike():
    losses = noisy(30)
    losses[25] = 7.0
    (spike,) = spikes_in(losses)
    before = np.array(losses[5:25])
    median = np.median(before)
    deviation = 1.4826 * np.median(np.abs(before - median))
    assert (spike.step, spike.loss_nats) == (26, 7.0)
    assert spike.median_nats == pytest.approx(median, rel=1e-12)
    assert spike.z_score == pytest.approx((7.0 - median) / deviation, rel=1e-9)


def test_a_low_loss_and_a_falling_one_are_no_spikes():
    losses = noisy(30)
    losses[25] = 1.0
    assert spikes_in(losses) == []
    assert spikes_in([10 * 0.97**step for step in range(100)]) == []


def test_noise_is_no_spike():
    assert spikes_in(noisy(2000)) == []


def test_losses_that_are_all_but_alike_make_no_spike_of_the_last_digit():
    assert spikes_in([5.0] * 30 + [5.0001]) == []
    assert len(spikes_in([5.0] * 30 + [5.1])) == 1


def test_a_batch_without_predictions_is_no_measure():
    progress = Progress(step=0, rows_seen={})
    assert spikes_in([5.0, math.nan, 5.0], progress=progress) == []
    assert progress.recent_losses == [5.0, 5.0] and progress.updates_skipped == 0


def test_half_a_window_must_be_known():
    assert spikes_in([5.0] * 9 + [50.0]) == []
    assert len(spikes_in([5.0] * 10 + [50.0])) == 1


def test_a_level_that_stays_high_becomes_the_new_normal():
    progress = Progress(step=0, rows_seen={})
    assert len(spikes_in([5.0] * 20 + [8.0] * 40, progress=progress)) == 1
    assert not progress.in_spike
    assert spikes_in(noisy(20, level=8.0), progress=progress) == []
    assert len(spikes_in([12.0], progress=progress)) == 1


def test_no_spikes_are_looked_for_where_none_are_wanted():
    config = DivergenceConfig(spike_z_score=math.inf)
    assert spikes_in([5.0] * 200 + [50.0], config) == []


@hypothesis.given(
    st.lists(st.one_of(st.none(), st.floats(0.1, 20)), min_size=1, max_size=80), st.data()
)
def test_a_stop_and_a_resume_find_the_same(losses, data):
    config = DivergenceConfig(spike_window_steps=8, spike_z_score=3.0, max_skips_in_a_row=1000)
    straight = Progress(step=0, rows_seen={})
    wanted = spikes_in(losses, config, straight)
    stop = data.draw(st.integers(0, len(losses)))
    first = Progress(step=0, rows_seen={})
    found = spikes_in(losses[:stop], config, first)
    resumed = Progress.from_record(first.step, first.to_record())
    assert resumed == first
    found += spikes_in(losses[stop:], config, resumed)
    assert found == wanted and resumed == straight


def test_updates_left_out_are_counted_and_too_many_in_a_row_end_the_run():
    progress = Progress(step=0, rows_seen={})
    assert spikes_in([5.0, None, None, 5.0, None], progress=progress) == []
    assert (progress.updates_skipped, progress.skips_in_a_row) == (3, 1)
    assert progress.recent_losses == [5.0, 5.0]  # What is no number is no measure.
    with pytest.raises(MachineError, match="at step 7, in 3 steps in a row") as caught:
        spikes_in([None, None], progress=progress)
    assert caught.value.exit_code == 1 and "\n" not in str(caught.value)
