"""Matrix FLOPs against counts by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from roberta_jax.dryrun.flops import matmul_flops

N, M, K = 3, 5, 7
LEFT, RIGHT = jnp.ones((N, K)), jnp.ones((K, M))


def flops(function, *arguments):
    return matmul_flops(jax.make_jaxpr(function)(*arguments))


def test_a_product_has_two_per_multiply_add():
    assert flops(jnp.matmul, LEFT, RIGHT) == 2 * N * M * K


def test_a_batched_product():
    batched = jnp.ones((4, N, K)), jnp.ones((4, K, M))
    assert flops(lambda a, b: jnp.einsum("bnk,bkm->bnm", a, b), *batched) == 4 * 2 * N * M * K


def test_a_loop_counts_as_often_as_it_runs():
    def repeated(a, b):
        return jax.lax.scan(lambda total, _: (total + a @ b, None), jnp.zeros((N, M)), length=11)[0]

    assert flops(repeated, LEFT, RIGHT) == 11 * 2 * N * M * K
    assert flops(jax.jit(repeated), LEFT, RIGHT) == 11 * 2 * N * M * K


@pytest.mark.parametrize(("recomputed", "products"), [(False, 6), (True, 7)])
def test_what_is_computed_again_counts_again(recomputed, products):
    """Two products, two gradients of each; and again the one whose result is needed."""
    square = jnp.ones((N, N))

    def layer(w):
        return (jnp.tanh(w @ w) @ w).sum()

    function = jax.checkpoint(layer) if recomputed else layer
    assert flops(jax.grad(function), square) == products * 2 * N**3


def test_what_runs_on_every_device_counts_on_each():
    mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    rows = jnp.ones((4 * N, K))

    def local(a, b):
        return jax.lax.psum(a @ b, "data")

    mapped = jax.shard_map(
        local, mesh=mesh, in_specs=(P("data"), P()), out_specs=P(), axis_names={"data"}
    )
    assert flops(mapped, rows, RIGHT) == 4 * 2 * N * M * K
