import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax.config import ScheduleConfig
from roberta_jax.optim.schedule import Stretch, make_schedule

WITH_AN_END = ["linear", "polynomial", "cosine", "warmup_stable_decay"]
KINDS = [*WITH_AN_END, "inverse_sqrt"]


def stretch(first, end, warmup, peak=1.0, decay=0):
    return Stretch(
        first_step=first,
        end_step=end,
        peak_learning_rate=peak,
        warmup_steps=warmup,
        decay_steps=decay,
    )


def rates(stretches, steps, kind="linear", **settings):
    rate = jax.jit(make_schedule(ScheduleConfig(kind=kind, **settings), stretches))
    return np.asarray(rate(jnp.asarray(list(steps), jnp.int32)))


@pytest.mark.parametrize(
    ("warmup_steps", "expected"),
    [
        # Four updates up; then down from the end of warm-up, not from step 0, which would give
        # 8/12 after the peak. Beyond the end there is nothing.
        (4, [1 / 4, 2 / 4, 3 / 4, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0, 0]),
        (1, [1, *(left / 11 for left in range(11, -1, -1))]),
        (0, [left / 12 for left in range(12, -1, -1)]),
    ],
)
def test_the_linear_table_of_a_run_of_twelve_steps(warmup_steps, expected):
    found = rates([stretch(0, 12, warmup_steps, peak=0.5)], range(len(expected)))
    np.testing.assert_allclose(found, 0.5 * np.array(expected), rtol=1e-6)


def test_the_table_of_roberta_base():
    steps = [0, 11_999, 23_999, 24_000, 262_000, 499_999, 500_000]
    expected = [6e-4 / 24_000, 3e-4, 6e-4, 6e-4, 3e-4, 6e-4 / 476_000, 0]
    found = rates([stretch(0, 500_000, 24_000, peak=6e-4)], steps)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_decay_from_the_start_drops_where_the_warm_up_ends():
    """As in Google's and NVIDIA's code: peak * (1 - step / steps)^power after the warm-up."""
    found = rates([stretch(0, 10, 4)], range(10), decay_from="start")
    np.testing.assert_allclose(found[:4], [1 / 4, 2 / 4, 3 / 4, 1], rtol=1e-6)
    np.testing.assert_allclose(
        found[4:], [6 / 10, 5 / 10, 4 / 10, 3 / 10, 2 / 10, 1 / 10], rtol=1e-6
    )
    lamb = stretch(0, 7_038, 2_001, peak=6e-3)
    found = rates([lamb], [2_000, 2_001], "polynomial", power=0.5, decay_from="start")
    np.testing.assert_allclose(found, [6e-3, 6e-3 * (1 - 2_001 / 7_038) ** 0.5], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_numpys_steps_give_the_same_rates_and_ask_no_device(kind):
    stretches = [stretch(0, 50, 5, decay=20), stretch(50, 90, 4, peak=0.5, decay=10)]
    rate = make_schedule(ScheduleConfig(kind=kind), stretches)
    found = [rate(np.int32(step)) for step in range(95)]
    assert not any(isinstance(value, jax.Array) for value in found)
    np.testing.assert_allclose(found, rates(stretches, range(95), kind), rtol=1e-5, atol=1e-9)


def test_the_last_step_of_warm_up_may_be_the_last_but_one_of_the_run():
    found = rates([stretch(0, 4, 3)], range(5))
    np.testing.assert_allclose(found, [1 / 3, 2 / 3, 1, 1, 0], rtol=1e-6)


def test_a_linear_decay_ends_at_its_share():
    found = rates([stretch(0, 6, 2, peak=8.0)], range(8), final_share=0.5)
    np.testing.assert_allclose(found, [4, 8, 8, 7, 6, 5, 4, 4], rtol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_a_polynomial_decay(share):
    found = rates([stretch(0, 6, 2)], range(8), "polynomial", power=0.5, final_share=share)
    falls = [1, math.sqrt(3) / 2, math.sqrt(2) / 2, 1 / 2, 0, 0]
    expected = [0.5, 1, *(share + (1 - share) * fall for fall in falls)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    squared = rates([stretch(0, 6, 2)], range(8), "polynomial", power=2.0)
    np.testing.assert_allclose(squared, [0.5, 1, 1, 9 / 16, 1 / 4, 1 / 16, 0, 0], rtol=1e-6)


def test_a_polynomial_of_power_1_is_linear():
    steps = [stretch(0, 40, 7)]
    np.testing.assert_allclose(
        rates(steps, range(42), "polynomial"), rates(steps, range(42)), rtol=1e-6
    )


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_a_cosine_decay(share):
    found = rates([stretch(0, 8, 2)], range(10), "cosine", final_share=share)
    # cos 30° and cos 60° are √3/2 and 1/2.
    falls = [1, (2 + math.sqrt(3)) / 4, 3 / 4, 1 / 2, 1 / 4, (2 - math.sqrt(3)) / 4, 0, 0]
    expected = [0.5, 1, *(share + (1 - share) * fall for fall in falls)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("warmup_steps", "expected"),
    [
        (4, [1 / 4, 2 / 4, 3 / 4, 1, math.sqrt(4 / 5), math.sqrt(4 / 6), math.sqrt(4 / 7)]),
        (1, [1, math.sqrt(1 / 2), math.sqrt(1 / 3), 1 / 2]),
        (0, [1, math.sqrt(1 / 2), math.sqrt(1 / 3), 1 / 2]),
    ],
)
def test_an_inverse_square_root(warmup_steps, expected):
    # Neither the end nor the final share has a part in it.
    for end, share in ((16, 0.0), (1000, 0.5)):
        found = rates([stretch(0, end, warmup_steps)], range(16), "inverse_sqrt", final_share=share)
        np.testing.assert_allclose(found[: len(expected)], expected, rtol=1e-6)
        np.testing.assert_allclose(found[15], math.sqrt(max(warmup_steps, 1)) / 4, rtol=1e-6)


def test_warm_up_then_constant_then_a_linear_decay():
    stretches = [stretch(0, 10, 2, decay=4)]
    found = rates(stretches, range(12), "warmup_stable_decay")
    falls = [1 / 2, 1, 1, 1, 1, 1, 1, 3 / 4, 2 / 4, 1 / 4, 0, 0]
    np.testing.assert_allclose(found, falls, rtol=1e-6)
    found = rates(stretches, range(12), "warmup_stable_decay", final_share=0.2)
    expected = [1 / 2, *(0.2 + 0.8 * fall for fall in falls[1:])]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    never = rates([stretch(0, 10, 2, decay=0)], range(10), "warmup_stable_decay")
    np.testing.assert_allclose(never, [1 / 2, *[1] * 9], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_every_stretch_is_a_run_of_its_own(kind):
    settings = {"final_share": 0.1, "power": 0.5}
    stretches = [
        stretch(0, 10, 3, peak=2.0, decay=4),
        stretch(10, 17, 0, peak=1.0, decay=7),
        stretch(17, 40, 5, peak=3.0, decay=2),
    ]
    found = rates(stretches, range(45), kind, **settings)
    expected = [
        rates(
            [stretch(0, part.end_step - part.first_step, part.warmup_steps, **of(part))],
            range(part.end_step - part.first_step),
            kind,
            **settings,
        )
        for part in stretches
    ]
    np.testing.assert_array_equal(found[:40], np.concatenate(expected))
    np.testing.assert_array_equal(found[40:], found[40])
    assert found[10] == 1.0 and found[17] == np.float32(3 / 5)


def of(part):
    return {"peak": part.peak_learning_rate, "decay": part.decay_steps}


@pytest.mark.parametrize("kind", KINDS)
def test_late_steps_are_told_apart(kind):
    # float32 has every second number only beyond 2^24, and every 64th beyond 2^29.
    first = 2**29 + 1
    late = [stretch(0, first, 0), stretch(first, first + 9, 4, decay=5)]
    early = [stretch(0, 9, 4, decay=5)]
    np.testing.assert_array_equal(
        rates(late, range(first, first + 10), kind), rates(early, range(10), kind)
    )


def test_a_long_decay_falls_at_every_step_near_its_end():
    end = 2**25 + 1
    found = rates([stretch(0, end, 0)], range(end - 5, end + 1))
    np.testing.assert_allclose(found, np.arange(5, -1, -1) / end, rtol=1e-6)


def test_stretches_that_do_not_touch_are_refused():
    for stretches in ([], [stretch(0, 4, 0), stretch(5, 9, 0)]):
        with pytest.raises(AssertionError):
            make_schedule(ScheduleConfig(), stretches)


@given(st.data())
def test_the_rate_rises_to_the_peak_and_falls_to_0_by_equal_steps(data):
    num_steps = data.draw(st.integers(2, 60))
    warmup_steps = data.draw(st.integers(0, num_steps - 1))
    rate = make_schedule(ScheduleConfig(), [stretch(0, num_steps, warmup_steps, peak=2.0)])
    found = np.asarray(rate(jnp.arange(61)))  # Always 61, so that hypothesis compiles once.
    assert not np.any(found[num_steps:])
    found = found[: num_steps + 1]
    np.testing.assert_allclose([found.max(), found[max(warmup_steps - 1, 0)]], 2.0, rtol=1e-6)
    rises, falls = np.diff(found[:warmup_steps]), np.diff(found[warmup_steps:])
    np.testing.assert_allclose(rises, 2.0 / max(warmup_steps, 1), rtol=1e-4)
    np.testing.assert_allclose(falls, -2.0 / (num_steps - warmup_steps), rtol=1e-4)
    # Nowhere more than one step up or down, where the two join neither.
    largest = 2.0 / min(max(warmup_steps, 1), num_steps - warmup_steps)
    assert np.abs(np.diff(found)).max() <= largest * (1 + 1e-6)


@given(st.data())
def test_every_kind_rises_to_its_peak_and_falls_to_its_share(data):
    kind = data.draw(st.sampled_from(KINDS))
    num_steps = data.draw(st.integers(1, 60))
    warmup_steps = data.draw(st.integers(0, num_steps))
    decay_steps = data.draw(st.integers(0, num_steps - warmup_steps))
    share = data.draw(st.floats(0, 1))
    config = ScheduleConfig(kind=kind, final_share=share, power=data.draw(st.floats(0.1, 4)))
    peak = data.draw(st.floats(1e-6, 1.0))
    part = stretch(0, num_steps, warmup_steps, peak=peak, decay=decay_steps)
    found = np.asarray(make_schedule(config, [part])(jnp.arange(61)))
    assert found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= np.float32(peak)
    warmup = max(warmup_steps, 1)
    expected = peak * np.arange(1, warmup_steps + 1) / warmup
    np.testing.assert_allclose(found[:warmup_steps], expected, rtol=1e-6)
    assert all(after <= before for before, after in itertools.pairwise(found[warmup - 1 :]))
    np.testing.assert_array_equal(found[num_steps:], found[num_steps])
    if kind in WITH_AN_END:
        np.testing.assert_allclose(found[num_steps], peak * share, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("warmup_steps", [0, 1])
def test_without_warm_up_the_first_update_has_the_peak(kind, warmup_steps):
    assert rates([stretch(0, 9, warmup_steps, decay=3)], [0], kind)[0] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_rate_of_a_traced_step_is_float32(kind):
    rate = make_schedule(ScheduleConfig(kind=kind), [stretch(0, 9, 0), stretch(9, 12, 0)])
    shape = jax.eval_shape(rate, jax.ShapeDtypeStruct((), jnp.int32))
    assert (shape.shape, shape.dtype, shape.weak_type) == ((), jnp.float32, False)
