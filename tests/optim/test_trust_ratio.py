import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roberta_jax.optim.trust_ratio import scale_by_trust_ratio

EVERYTHING = {"layers": {"kernel": True}, "head": {"kernel": True, "bias": False}}
WEIGHTS = {
    "layers": {"kernel": jnp.array([[[3.0, 4.0]], [[30.0, 40.0]]])},  # [2, 1, 2]
    "head": {"kernel": jnp.array([[6.0], [8.0]]), "bias": jnp.array([7.0, 7.0])},
}
UPDATE = {
    "layers": {"kernel": jnp.array([[[0.0, 2.0]], [[-4.0, 0.0]]])},
    "head": {"kernel": jnp.array([[1.0], [0.0]]), "bias": jnp.array([1.0, -2.0])},
}


def scaled(update, weights, mask=EVERYTHING):
    transformation = scale_by_trust_ratio(lambda params: mask)
    state = transformation.init(weights)
    found, after = jax.jit(transformation.update)(update, state, weights)
    assert after == state and not jax.tree.leaves(state)
    return found


def test_the_update_of_every_layer_becomes_as_long_as_its_weights():
    found = scaled(UPDATE, WEIGHTS)
    np.testing.assert_array_equal(found["layers"]["kernel"], [[[0, 5]], [[-50, 0]]])
    np.testing.assert_array_equal(found["head"]["kernel"], [[10], [0]])


def test_what_the_mask_leaves_out_stays_as_it_is():
    found = scaled(UPDATE, WEIGHTS)
    np.testing.assert_array_equal(found["head"]["bias"], UPDATE["head"]["bias"])
    nothing = jax.tree.map(lambda _: False, EVERYTHING)
    jax.tree.map(np.testing.assert_array_equal, scaled(UPDATE, WEIGHTS, nothing), UPDATE)


def test_a_layer_of_zeros_has_ratio_1_and_does_not_touch_the_others():
    weights = jax.tree.map(jnp.copy, WEIGHTS)
    weights["layers"]["kernel"] = weights["layers"]["kernel"].at[0].set(0)
    weights["head"]["kernel"] = jnp.zeros((2, 1))
    found = scaled(UPDATE, weights)
    np.testing.assert_array_equal(found["layers"]["kernel"], [[[0, 2]], [[-50, 0]]])
    np.testing.assert_array_equal(found["head"]["kernel"], UPDATE["head"]["kernel"])


def test_an_update_of_zeros_stays_zero():
    update = jax.tree.map(jnp.zeros_like, UPDATE)
    jax.tree.map(np.testing.assert_array_equal, scaled(update, WEIGHTS), update)


@pytest.mark.parametrize("length", [1e-8, 1e8])
def test_the_ratio_is_not_clipped(length):
    weights = jax.tree.map(lambda leaf: leaf * jnp.float32(length), WEIGHTS)
    found = scaled(UPDATE, weights)["head"]["kernel"]
    np.testing.assert_allclose(found, [[10 * length], [0]], rtol=1e-6)


def test_only_the_layers_at_the_root_are_stacked():
    weights = {"other": {"layers": jnp.array([[3.0, 0.0], [0.0, 4.0]])}}
    found = scaled(jax.tree.map(jnp.ones_like, weights), weights, {"other": {"layers": True}})
    np.testing.assert_allclose(found["other"]["layers"], np.full((2, 2), 2.5), rtol=1e-6)
