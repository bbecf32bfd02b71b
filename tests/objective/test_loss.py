import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax.objective.loss import LossSums, cross_entropy, masked_lm_sums, z_loss_sum

ROWS, SLOTS, VOCAB, PADDED = 6, 5, 40, 48


def draw(seed, scale=3.0):
    """Logits with -inf beyond the vocabulary, targets (0 among them) and weights."""
    source = np.random.Generator(np.random.Philox(key=seed))
    logits = scale * source.standard_normal((ROWS, SLOTS, PADDED)).astype(np.float32)
    logits[..., VOCAB:] = -np.inf
    targets = source.integers(0, VOCAB, (ROWS, SLOTS), np.int32)
    targets[:, 0] = 0
    # Rows have unlike numbers of predictions, from none to all.
    weights = (np.arange(SLOTS) < np.arange(ROWS)[:, None]).astype(np.float32)
    return logits, targets, weights


def losses_of_numpy(logits, targets):
    logits = logits[..., :VOCAB].astype(np.float64)
    log_total = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)) + logits.max(-1)
    return log_total - np.take_along_axis(logits, targets[..., None], -1)[..., 0]


sums_of = jax.jit(masked_lm_sums)
gradient_of = jax.jit(jax.grad(lambda *inputs: masked_lm_sums(*inputs).loss))


def as_numbers(sums):
    return [float(value) for value in (sums.loss, sums.correct, sums.count)]


@pytest.mark.parametrize("scale", [0.1, 3.0, 300.0])
def test_cross_entropy_is_what_numpy_computes(scale):
    logits, targets, _ = draw(1, scale)
    losses = jax.jit(cross_entropy)(logits, targets)
    np.testing.assert_allclose(
        losses, losses_of_numpy(logits, targets), rtol=2e-6, atol=3e-7 * scale + 1e-6
    )


def test_the_loss_is_in_nats():
    logits = jnp.full((1, 1, 32), 7.0).at[..., 20:].set(-jnp.inf)
    loss = sums_of(logits, jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1))).loss
    np.testing.assert_allclose(loss, math.log(20), rtol=1e-6)


@given(st.integers(0, 2**32))
def test_sums_are_what_numpy_computes(seed):
    logits, targets, weights = draw(seed)
    sums = sums_of(logits, targets, weights)
    np.testing.assert_allclose(
        sums.loss, (losses_of_numpy(logits, targets) * weights).sum(), rtol=1e-6
    )
    assert sums.correct == ((logits.argmax(-1) == targets) * weights).sum()
    assert sums.count == weights.sum() == 15


def test_the_most_probable_target_is_correct_and_a_slot_without_weight_is_not():
    logits, targets, weights = draw(2)
    rows = np.indices(targets.shape)
    logits[rows[0], rows[1], targets] = 50
    assert as_numbers(sums_of(logits, targets, weights))[1:] == [15, 15]
    logits[rows[0], rows[1], (targets + 1) % VOCAB] = 51
    assert as_numbers(sums_of(logits, targets, weights))[1:] == [0, 15]


@pytest.mark.parametrize("target", [0, 7])
def test_slots_without_weight_count_nothing_and_token_0_counts_as_any_other(target):
    logits, targets, _ = draw(3)
    targets[...] = target
    losses = losses_of_numpy(logits, targets)
    for slot in (0, 3):
        weights = np.zeros((ROWS, SLOTS), np.float32)
        weights[2, slot] = 1
        sums = sums_of(logits, targets, weights)
        np.testing.assert_allclose(sums.loss, losses[2, slot], rtol=2e-6)
        assert sums.count == 1
        gradient = np.array(gradient_of(logits, targets, weights))
        assert np.all(gradient[2, slot, :VOCAB] != 0)
        gradient[2, slot] = 0
        assert not np.any(gradient)


@given(st.permutations(range(ROWS)), st.integers(1, ROWS - 1))
def test_sums_of_the_parts_add_up_to_the_sums_of_the_whole(order, cut):
    logits, targets, weights = draw(4)
    parts = [np.array(order[:cut]), np.array(order[cut:])]
    total = LossSums(*(jnp.zeros(()) for _ in range(3)))
    for rows in parts:
        # Padded to one shape with rows of weight 0, as a last batch is.
        part = np.resize(rows, ROWS)
        inside = (np.arange(ROWS) < len(rows))[:, None]
        total = total + sums_of(logits[part], targets[part], weights[part] * inside)
    whole = sums_of(logits, targets, weights)
    np.testing.assert_allclose(total.loss, whole.loss, rtol=1e-6)
    assert (total.correct, total.count) == (whole.correct, whole.count)


@pytest.mark.parametrize("scale", [0.1, 3.0, 300.0])
def test_the_gradient_is_that_of_a_plain_log_softmax(scale):
    logits, targets, weights = draw(5, scale)

    def plain(logits):
        entries = jax.nn.log_softmax(logits[..., :VOCAB])
        return -(jnp.take_along_axis(entries, targets[..., None], -1)[..., 0] * weights).sum()

    gradient = gradient_of(logits, targets, weights)
    tolerance = 1e-6 + 6e-8 * scale  # The logits themselves are rounded.
    np.testing.assert_allclose(gradient, jax.jit(jax.grad(plain))(logits), rtol=0, atol=tolerance)
    # Softmax minus one: the sum over the entries is 0.
    np.testing.assert_allclose(gradient.sum(-1), 0, atol=tolerance)


def test_the_gradient_is_scaled_by_each_slots_cotangent():
    logits, targets, _ = draw(6)
    cotangent = np.arange(ROWS * SLOTS, dtype=np.float32).reshape(ROWS, SLOTS)
    _, pullback = jax.vjp(lambda logits: cross_entropy(logits, targets), logits)
    probabilities = np.exp(-losses_of_numpy(logits, targets))
    at_target = np.take_along_axis(np.asarray(pullback(cotangent)[0]), targets[..., None], -1)
    np.testing.assert_allclose(at_target[..., 0], (probabilities - 1) * cotangent, rtol=1e-5)


def test_entries_of_minus_infinity_leave_loss_and_gradient_finite():
    logits, targets, weights = draw(7)
    assert np.isfinite(sums_of(logits, targets, weights).loss)
    gradient = np.asarray(gradient_of(logits, targets, weights))
    assert np.all(np.isfinite(gradient))
    assert not np.any(gradient[..., VOCAB:])


def test_a_batch_without_predictions_has_sums_and_gradient_0():
    logits, targets, weights = draw(8)
    assert as_numbers(sums_of(logits, targets, 0 * weights)) == [0, 0, 0]
    np.testing.assert_array_equal(gradient_of(logits, targets, 0 * weights), 0)


# ---- z-loss -------------------------------------------------------------------------------------

z_loss_of = jax.jit(z_loss_sum)


def log_totals(logits):
    """In NumPy and float64."""
    logits = logits[..., :VOCAB].astype(np.float64)
    largest = logits.max(-1)
    return np.log(np.exp(logits - largest[..., None]).sum(-1)) + largest


@pytest.mark.parametrize("scale", [0.1, 3.0, 300.0])
def test_the_z_loss_is_what_numpy_computes(scale):
    logits, _, weights = draw(9, scale)
    wanted = (log_totals(logits) ** 2 * weights).sum()
    np.testing.assert_allclose(z_loss_of(logits, weights), wanted, rtol=2e-6)
    assert z_loss_of(logits, weights).dtype == jnp.float32


def test_the_z_loss_is_in_squared_nats_and_0_where_the_denominator_is_1():
    logits = jnp.full((1, 1, 32), 2.0).at[..., 20:].set(-jnp.inf)
    expected = (math.log(20) + 2) ** 2
    np.testing.assert_allclose(z_loss_of(logits, jnp.ones((1, 1))), expected, rtol=1e-6)
    logits = jax.nn.log_softmax(draw(10)[0][..., :VOCAB])
    assert z_loss_of(logits, jnp.ones((ROWS, SLOTS))) < 1e-10


@pytest.mark.parametrize("scale", [0.1, 3.0, 300.0])
def test_the_gradient_of_the_z_loss_is_that_of_a_plain_formula(scale):
    logits, _, weights = draw(11, scale)
    gradient = jax.jit(jax.grad(z_loss_sum))(logits, weights)

    def plain(logits):
        return jnp.sum((jnp.log(jnp.exp(logits - largest).sum(-1)) + largest) ** 2 * weights)

    largest = logits.max()
    totals = log_totals(logits)
    wide = logits[..., :VOCAB].astype(np.float64)
    probabilities = np.exp(wide - totals[..., None])
    expected = 2 * (totals * weights)[..., None] * probabilities
    np.testing.assert_allclose(
        gradient[..., :VOCAB], expected, rtol=2e-6 + 1e-7 * scale, atol=1e-6 * scale
    )
    assert np.all(np.isfinite(gradient)) and not np.any(gradient[..., VOCAB:])
    if scale < 100:  # The plain formula overflows beyond.
        theirs = jax.jit(jax.grad(plain))(logits[..., :VOCAB])
        np.testing.assert_allclose(gradient[..., :VOCAB], theirs, rtol=1e-4, atol=1e-6)


def test_slots_without_weight_have_no_z_loss_and_no_gradient():
    logits, _, weights = draw(12)
    assert z_loss_of(logits, 0 * weights) == 0
    gradient = np.asarray(jax.jit(jax.grad(z_loss_sum))(logits, weights))
    np.testing.assert_array_equal(np.any(gradient != 0, axis=-1), weights > 0)


def test_a_step_down_the_z_loss_brings_the_denominator_nearer_to_1():
    logits, _, _ = draw(13)
    weights = np.ones((ROWS, SLOTS), np.float32)
    moved = logits - 0.1 * np.nan_to_num(jax.grad(z_loss_sum)(logits, weights))
    assert np.all(np.abs(log_totals(moved)) < np.abs(log_totals(logits)))
