"""The devices change nothing: loss, gradient and update of a step on every mesh are those of one.

How near: of every array, the 2-norm of the difference is at most 1e-6 of its own 2-norm, in
float32, whose rounding is 6e-8. (The bias of the keys has a gradient of 0, but for rounding: it
moves all scores of a query alike. It is measured by the size of the queries' bias.)
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roberta_jax.encoder.dropout import keep_mask, row_keys
from roberta_jax.objective.masking import masking_key
from roberta_jax.parallel.mesh import AXES
from roberta_jax.parallel.placement import place
from roberta_jax.parallel.tables import batch_sharding, constrain
from tests.train.meshes import (
    ONE,
    Stepper,
    factorizations,
    maker_of,
    named,
    small_config,
    small_mesh,
    small_rows,
)

TOLERANCE = 1e-6
# Sizes of data, fsdp, context and tensor. Every axis, and every pair of axes, is among these.
CHOSEN = [(4, 2, 1, 1), (2, 1, 2, 2), (1, 2, 2, 2)]
ALL = [sizes for number in (2, 4, 8) for sizes in factorizations(number)]


def assert_equal(found, wanted, what):
    """`what` begins the paths of the arrays that are compared."""
    compared = [path for path in wanted if path.startswith(what)]
    assert compared
    off = {}
    for path in compared:
        size = np.linalg.norm(wanted[path.replace("attention/key/bias", "attention/query/bias")])
        off[path] = np.linalg.norm(found[path] - wanted[path]) / size
    assert max(off.values()) <= TOLERANCE, sorted(off.items(), key=lambda item: -item[1])[:5]


def assert_same_step(found, wanted):
    (state, metrics), (wanted_state, wanted_metrics) = found, wanted
    for path in (
        "sums/predictions/count",
        "sums/predictions/correct",
        "sums/pairs/count",
        "applied",
    ):
        assert metrics[path] == wanted_metrics[path], path
    for path in ("sums/predictions/loss", "sums/pairs/loss", "gradient_norm"):
        np.testing.assert_allclose(metrics[path], wanted_metrics[path], rtol=TOLERANCE)
    # After the first step, the first moment is the (clipped) gradient, times 1 - beta1.
    assert_equal(state, wanted_state, "optimizer/1/mu/")
    assert_equal(state, wanted_state, "params/")


def step_on(reference, sizes):
    return Stepper(reference.config, sizes, reference.begin)


@pytest.fixture(scope="module")
def one():
    """The step on one device, and what it gives."""
    stepper = Stepper(small_config(), ONE)
    state, metrics = stepper()
    # So that the comparison says something: all were predicted, clipped, updated.
    assert metrics["applied"] == 1 and metrics["gradient_norm"] > 0.5
    assert 50 < metrics["sums/predictions/count"] < 16 * 5
    assert state["optimizer/1/count"] == 1
    for path, leaf in named(stepper.begin).items():
        if path.startswith("params/") and not path.endswith("key/bias"):
            assert np.linalg.norm(state[path] - leaf) > 1e-4 * np.linalg.norm(leaf), path
    return stepper, (state, metrics)


def test_the_chosen_meshes_have_every_pair_of_axes():
    used = [{axis for axis, size in zip(AXES, sizes, strict=True) if size > 1} for sizes in CHOSEN]
    for first in AXES:
        for second in AXES:
            assert any({first, second} <= axes for axes in used), (first, second)
    assert len(ALL) == 4 + 10 + 20


def check_mesh(one, sizes):
    """The step is that of one device, and the same bit for bit when it is taken again."""
    stepper = step_on(one[0], sizes)
    first, second = stepper(), stepper()
    assert_same_step(first, one[1])
    for once, again in zip(first, second, strict=True):
        for path, leaf in once.items():
            assert leaf.tobytes() == again[path].tobytes(), path


@pytest.mark.parametrize("sizes", CHOSEN, ids=str)
def test_a_step_is_the_same_on_any_mesh(one, sizes):
    check_mesh(one, sizes)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [sizes for sizes in ALL if sizes not in CHOSEN], ids=str)
def test_a_step_is_the_same_on_every_mesh(one, sizes):
    check_mesh(one, sizes)


@pytest.mark.slow
def test_two_losses_and_lamb_are_the_same_on_a_mixed_mesh():
    config = small_config(
        optimizer={"kind": "lamb"}, next_sentence_head=True, num_token_types=2, num_layers=3
    )
    reference = Stepper(config, ONE)
    wanted = reference()
    assert wanted[1]["sums/pairs/count"] == 16
    assert_same_step(step_on(reference, (2, 1, 2, 2))(), wanted)


@pytest.mark.slow
def test_moments_in_bfloat16_are_the_same_on_a_mixed_mesh():
    reference = Stepper(small_config(optimizer={"moments_dtype": "bfloat16"}), ONE)
    wanted, wanted_metrics = reference()
    found, metrics = step_on(reference, (2, 2, 1, 2))()
    np.testing.assert_allclose(metrics["gradient_norm"], wanted_metrics["gradient_norm"], rtol=1e-6)
    assert_equal(found, wanted, "params/")
    alike = total = 0
    for path in wanted:
        if "/mu/" in path or "/nu/" in path:
            assert found[path].dtype == wanted[path].dtype == "bfloat16"
            if path.endswith("key/bias"):
                continue  # Rounding errors only.
            left, right = (each[path].astype(np.float32) for each in (found, wanted))
            # Rounded at random by bits that the place decides: another way only where a rounding
            # error of float32 lies between the two.
            off, size = np.abs(left - right), np.abs(right)
            assert (off <= 2**-7 * size + TOLERANCE * size.max()).all(), path
            alike += (left == right).sum()
            total += left.size
    assert alike >= 0.999 * total


@pytest.mark.parametrize("sizes", [(2, 1, 2, 2), (1, 2, 4, 1)], ids=str)
def test_masks_and_dropout_are_the_same_bits_on_any_mesh(sizes):
    config = small_config()
    rows, maker = small_rows(config), maker_of(config)

    def random_bits(batch):
        keys = row_keys(config.seed, jnp.uint32(5), len(rows.tokens))
        inputs = maker(batch, masking_key(config.seed), keys)
        hidden = keep_mask(inputs.keys, (16, 32, 32), 0.1)
        weights = keep_mask(inputs.keys, (16, 32, 8, 32), 0.1)  # As [B, T, H, S]: see "heads".
        return inputs, constrain(hidden, "hidden"), constrain(weights, "heads")

    results = []
    for mesh in (small_mesh(ONE), small_mesh(sizes)):
        with jax.set_mesh(mesh):
            run = jax.jit(random_bits, in_shardings=batch_sharding(mesh))
            found = run(place(rows, mesh))
            results.append(named(found))
    shape = found[2].sharding.shard_shape((16, 32, 8, 32))
    assert math.prod(shape) * math.prod(sizes) == 16 * 32 * 8 * 32
    assert len(results[0]) == 7
    for path, leaf in results[0].items():
        assert leaf.tobytes() == results[1][path].tobytes(), path
