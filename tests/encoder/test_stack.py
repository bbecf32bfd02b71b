import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from roberta_jax.encoder.dropout import site_keys
from roberta_jax.encoder.layer import Layer
from roberta_jax.encoder.stack import init_layers, run_layers
from tests.encoder import reference
from tests.encoder.tiny import CONFIG, functional, generator, initial_params

KEYS = np.array([11, 22, 33], np.uint32)
POLICIES = ["none", "dots", "full"]
DEEP = dataclasses.replace(CONFIG, num_layers=3)


def make(config=DEEP):
    """Weights at random, and the stack as a function of (weights, x, real, keys, policy)."""
    params, run = functional(
        lambda: init_layers(config, jax.random.key(0)),
        lambda layers, x, real, keys, policy: run_layers(
            layers, x, real, keys, rematerialization=policy
        ),
    )
    return params, lambda params, x, real, keys=None, policy="none": run(
        params, x, real, keys, policy
    )


def inputs():
    x = generator(2).standard_normal((3, 7, CONFIG.hidden_size)).astype(np.float32)
    real = np.ones((3, 7), bool)
    real[1, 4:] = real[2, 1] = False
    return x, real


def test_the_scan_is_a_loop_over_the_layers():
    params, run = make()
    x, real = inputs()
    _, layer = functional(lambda: Layer(DEEP, rngs=nnx.Rngs(0)))

    @jax.jit
    def loop(params, x):
        for depth in range(DEEP.num_layers):
            x = layer(reference.at(params, depth), x, real, site_keys(KEYS, depth + 1))
        return x

    scanned = jax.jit(run)(params, x, real, KEYS)
    np.testing.assert_allclose(scanned, loop(params, x), rtol=0, atol=2e-6)
    assert not np.allclose(scanned, x, atol=0.1)


@pytest.mark.slow
def test_rematerialization_changes_neither_loss_nor_gradient():
    params, run = make()
    x, real = inputs()
    cotangent = generator(5).standard_normal(x.shape).astype(np.float32)

    def value_and_gradient(policy):
        def loss(params, x):
            return jnp.vdot(run(params, x, real, KEYS, policy), cotangent)

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, x)

    value, gradient = value_and_gradient("none")
    size = max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient))
    for policy in ("dots", "full"):
        other_value, other = value_and_gradient(policy)
        np.testing.assert_allclose(other_value, value, rtol=1e-6)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * size),
            other,
            gradient,
        )


def program(config, policy="none"):
    params, run = make(config)
    x, real = inputs()
    gradient = jax.grad(lambda params: run(params, x, real, KEYS, policy).sum())
    return str(jax.make_jaxpr(gradient)(params))


def test_full_rematerialization_multiplies_again_and_dots_keeps_the_products():
    counts = {policy: program(DEEP, policy).count("dot_general") for policy in POLICIES}
    # Of a layer: six projections, and two products of the attention, which `dots` computes again.
    assert counts["dots"] == counts["none"] + 2
    assert counts["full"] >= counts["none"] + 6


def test_the_program_does_not_grow_with_the_depth():
    lengths = [len(program(dataclasses.replace(CONFIG, num_layers=depth))) for depth in (2, 9)]
    assert abs(lengths[1] - lengths[0]) < 0.01 * lengths[0]


def test_every_layer_has_weights_of_its_own_in_one_stacked_array():
    layers = initial_params()["layers"]
    kernel = np.asarray(layers["mlp"]["up"]["kernel"])
    assert kernel.shape == (2, 32, 48)
    assert np.abs(np.corrcoef(kernel.reshape(2, -1)) - np.eye(2)).max() < 5 / np.sqrt(32 * 48)
    assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(layers))
