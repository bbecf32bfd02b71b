import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax.config import OptimizerConfig
from roberta_jax.optim.schedule import linear_warmup_linear_decay


def rates(peak, warmup_steps, num_steps, steps):
    config = OptimizerConfig(peak_learning_rate=peak, warmup_steps=warmup_steps)
    rate = jax.jit(linear_warmup_linear_decay(config, num_steps))
    return np.array([rate(jnp.int32(step)) for step in steps])


@pytest.mark.parametrize(
    ("warmup_steps", "expected"),
    [
        # Four updates up; then down from the end of warm-up, not from step 0, which would give
        # 8/12 after the peak. Beyond num_steps there is nothing.
        (4, [1 / 4, 2 / 4, 3 / 4, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0, 0]),
        (
            1,
            [
                1,
                1,
                10 / 11,
                9 / 11,
                8 / 11,
                7 / 11,
                6 / 11,
                5 / 11,
                4 / 11,
                3 / 11,
                2 / 11,
                1 / 11,
                0,
            ],
        ),
        (0, [1, 11 / 12, 10 / 12, 9 / 12, 8 / 12, 7 / 12, 6 / 12, 5 / 12, 4 / 12, 3 / 12, 2 / 12]),
    ],
)
def test_the_table_of_a_run_of_twelve_steps(warmup_steps, expected):
    found = rates(0.5, warmup_steps, 12, range(len(expected)))
    np.testing.assert_allclose(found, 0.5 * np.array(expected), rtol=1e-6)


def test_the_table_of_roberta_base():
    steps = [0, 11_999, 23_999, 24_000, 262_000, 499_999, 500_000]
    expected = [6e-4 / 24_000, 3e-4, 6e-4, 6e-4, 3e-4, 6e-4 / 476_000, 0]
    np.testing.assert_allclose(rates(6e-4, 24_000, 500_000, steps), expected, rtol=1e-6)


def test_the_last_step_of_warm_up_may_be_the_last_but_one_of_the_run():
    np.testing.assert_allclose(rates(1.0, 3, 4, range(5)), [1 / 3, 2 / 3, 1, 1, 0], rtol=1e-6)


@given(st.data())
def test_the_rate_rises_to_the_peak_and_falls_to_0_by_equal_steps(data):
    num_steps = data.draw(st.integers(2, 60))
    warmup_steps = data.draw(st.integers(0, num_steps - 1))
    config = OptimizerConfig(peak_learning_rate=2.0, warmup_steps=warmup_steps)
    # Always 61 steps, so that hypothesis compiles once.
    found = np.asarray(linear_warmup_linear_decay(config, num_steps)(jnp.arange(61)))
    assert not np.any(found[num_steps:])
    found = found[: num_steps + 1]
    np.testing.assert_allclose([found.max(), found[max(warmup_steps - 1, 0)]], 2.0, rtol=1e-6)
    rises, falls = np.diff(found[:warmup_steps]), np.diff(found[warmup_steps:])
    np.testing.assert_allclose(rises, 2.0 / max(warmup_steps, 1), rtol=1e-4)
    np.testing.assert_allclose(falls, -2.0 / (num_steps - warmup_steps), rtol=1e-4)


def test_the_rate_of_a_traced_step_is_float32():
    rate = linear_warmup_linear_decay(OptimizerConfig(), 500_000)
    shape = jax.eval_shape(rate, jax.ShapeDtypeStruct((), jnp.int32))
    assert (shape.shape, shape.dtype) == ((), jnp.float32)
