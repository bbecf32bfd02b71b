import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from roberta_jax.config import MeshConfig
from roberta_jax.encoder.attention import (
    SelfAttention,
    fused_implementation,
    mixture,
    products,
    softmax,
)
from roberta_jax.encoder.dropout import keep_mask
from roberta_jax.errors import UserError
from roberta_jax.parallel.mesh import make_mesh
from tests.encoder import reference
from tests.encoder.tiny import CONFIG, functional, generator, wide

KEYS = np.array([11, 22, 33], np.uint32)


def make(config=CONFIG):
    params, run = functional(lambda: SelfAttention(config, rngs=nnx.Rngs(0)))
    return params, jax.jit(lambda params, x, real, keys=None: run(params, x, real, keys))


def inputs(seed=2, length=7):
    x = generator(seed).standard_normal((3, length, CONFIG.hidden_size)).astype(np.float32)
    real = np.ones((3, length), bool)
    real[1, 4:] = real[2, 1] = False
    return x, real


@pytest.mark.parametrize("num_heads", [1, 4])
def test_without_dropout_it_is_what_numpy_computes(num_heads):
    params, run = make(dataclasses.replace(CONFIG, num_heads=num_heads))
    x, real = inputs()
    expected = reference.attention(wide(x), real, wide(params), num_heads)
    np.testing.assert_allclose(run(params, x, real), expected, rtol=0, atol=1e-5)


def test_dropout_falls_on_the_probabilities():
    params, run = make()
    x, real = inputs()

    def drop(weights):
        rate = CONFIG.attention_dropout_rate
        return weights * np.asarray(keep_mask(KEYS, weights.shape, rate)) / (1 - rate)

    expected = reference.attention(wide(x), real, wide(params), CONFIG.num_heads, drop)
    np.testing.assert_allclose(run(params, x, real, KEYS), expected, rtol=0, atol=1e-5)


def test_with_a_dropout_rate_near_0_both_paths_have_one_value_and_one_gradient():
    params, run = make(dataclasses.replace(CONFIG, attention_dropout_rate=1e-12))
    x, real = inputs()
    cotangent = generator(3).standard_normal(x.shape).astype(np.float32)
    np.testing.assert_allclose(run(params, x, real, KEYS), run(params, x, real), rtol=0, atol=5e-6)

    def gradients(keys):
        def loss(params, x):
            return jnp.vdot(run(params, x, real, keys), cotangent)

        return jax.jit(jax.grad(loss, argnums=(0, 1)))(params, x)

    fused, ours = gradients(None), gradients(KEYS)
    size = max(np.abs(leaf).max() for leaf in jax.tree.leaves(fused))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * size), ours, fused
    )


def test_without_a_rate_the_keys_are_not_used():
    params, run = make(dataclasses.replace(CONFIG, attention_dropout_rate=0.0))
    x, real = inputs()
    np.testing.assert_array_equal(run(params, x, real, KEYS), run(params, x, real))


@pytest.mark.parametrize("keys", [None, KEYS], ids=["evaluation", "dropout"])
def test_what_stands_in_padding_reaches_no_token(keys):
    params, run = make()
    x, real = inputs()
    other = np.where(real[..., None], x, 1e3 * x + 7).astype(np.float32)
    np.testing.assert_array_equal(
        run(params, other, real, keys)[real], run(params, x, real, keys)[real]
    )


@pytest.mark.parametrize("keys", [None, KEYS], ids=["evaluation", "dropout"])
def test_a_row_of_padding_only_is_finite_and_so_are_its_gradients(keys):
    params, run = make()
    x, real = inputs()
    real[0] = False
    assert np.all(np.isfinite(run(params, x, real, keys)))
    gradients = jax.jit(jax.grad(lambda params, x: run(params, x, real, keys).sum(), (0, 1)))(
        params, x
    )
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize("rate", [0.0, 1e-12], ids=["fused", "with dropout"])
def test_with_sixteen_bits_scores_and_softmax_are_float32(rate):
    config = dataclasses.replace(
        CONFIG, num_heads=1, compute_dtype="bfloat16", attention_dropout_rate=rate
    )
    params, run = make(config)
    identity = {"kernel": np.eye(32, dtype=np.float32), "bias": np.zeros(32, np.float32)}
    params = {name: identity for name in params}
    # Exact in bfloat16; the scores are near 190 and differ by 0.09, where bfloat16 has steps of 1.
    x = np.full((1, 7, 32), 5.75, np.float32)
    x[0, :, 0] = 5.75 + np.arange(7) / 32
    x[0, :, 1] = np.arange(7) - 3
    real = np.ones((1, 7), bool)
    assert len(np.unique(jnp.asarray(x).astype(jnp.bfloat16))) == len(np.unique(x))
    expected = reference.attention(wide(x), real, wide(params), 1)
    y = run(params, jnp.asarray(x, jnp.bfloat16), real, KEYS[:1])
    assert y.dtype == jnp.bfloat16
    # Weights and result are rounded to 8 bits each.
    np.testing.assert_allclose(y.astype(np.float32), expected, rtol=0, atol=0.03)


@pytest.mark.parametrize("kind", [jnp.float32, jnp.bfloat16])
def test_softmax_is_rounded_once_and_its_gradient_is_that_of_the_parts(kind):
    scores = 5 * generator(4).standard_normal((3, 2, 9)).astype(np.float32)
    weights = softmax(scores, kind)
    assert weights.dtype == kind
    np.testing.assert_allclose(
        weights.astype(np.float32),
        reference.softmax(wide(scores)),
        rtol=2**-8 if kind == jnp.bfloat16 else 2e-6,
    )
    cotangent = generator(5).standard_normal(scores.shape).astype(np.float32)
    ours, theirs = (
        jax.grad(lambda s, f=f: jnp.vdot(f(s).astype(jnp.float32), cotangent))(scores)
        for f in (lambda s: softmax(s, kind), jax.nn.softmax)
    )
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.01 if kind == jnp.bfloat16 else 1e-6)


@pytest.mark.parametrize(
    ("backend", "kind", "head_size", "expected"),
    [
        ("cpu", "bfloat16", 64, "xla"),
        ("tpu", "bfloat16", 64, "xla"),
        ("gpu", "bfloat16", 64, "cudnn"),
        ("gpu", "bfloat16", 128, "cudnn"),
        ("gpu", "float32", 64, "xla"),  # The kernel is for 16 bits,
        ("gpu", "bfloat16", 20, "xla"),  # multiples of 8,
        ("gpu", "bfloat16", 136, "xla"),  # of at most 128.
    ],
)
def test_auto_takes_the_fused_kernel_where_there_is_one(
    monkeypatch, backend, kind, head_size, expected
):
    pretend(monkeypatch, backend, "NVIDIA H100 80GB HBM3")
    assert fused_implementation("auto", jnp.dtype(kind), head_size) == expected
    assert fused_implementation("xla", jnp.dtype(kind), head_size) == "xla"
    if expected == "cudnn":
        assert fused_implementation("cudnn", jnp.dtype(kind), head_size) == "cudnn"
    else:
        with pytest.raises(UserError, match="needs an NVIDIA GPU"):
            fused_implementation("cudnn", jnp.dtype(kind), head_size)


def test_a_gpu_without_cudnn_takes_xla(monkeypatch):
    pretend(monkeypatch, "gpu", "AMD Instinct MI300X")
    assert fused_implementation("auto", jnp.dtype("bfloat16"), 64) == "xla"


@pytest.mark.parametrize(("context", "expected"), [(1, "cudnn"), (4, "xla")])
def test_rows_that_are_split_over_devices_take_xla(monkeypatch, context, expected):
    mesh = make_mesh(MeshConfig(context=context))
    pretend(monkeypatch, "gpu", "NVIDIA H100 80GB HBM3")
    with jax.set_mesh(mesh):
        assert fused_implementation("auto", jnp.dtype("bfloat16"), 64) == expected
        if context > 1:
            with pytest.raises(UserError, match=r"needs an NVIDIA GPU, mesh\.context=1"):
                fused_implementation("cudnn", jnp.dtype("bfloat16"), 64)


def pretend(monkeypatch, backend, kind):
    device = types.SimpleNamespace(device_kind=kind)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "devices", lambda: [device])


SIZES = {"b": 3, "t": 5, "s": 6, "h": 2, "k": 40}


def draw_like(letters, seed):
    shape = tuple(SIZES[letter] for letter in letters)
    return generator(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("function", "of_a", "of_b", "of_result"),
    [(products, "bthk", "bshk", "bhts"), (mixture, "bhts", "bshk", "bthk")],
    ids=["products", "mixture"],
)
def test_both_products_and_their_gradients_are_einsums_of_rounded_operands(
    function, of_a, of_b, of_result, kind
):
    a, b, cotangent = (
        jnp.asarray(draw_like(letters, seed), kind)
        for seed, letters in enumerate((of_a, of_b, of_result))
    )
    y, pullback = jax.vjp(function, a, b)
    gradients = pullback(cotangent.astype(y.dtype))
    assert y.dtype == (jnp.float32 if function is products else kind)
    assert [gradient.dtype for gradient in gradients] == [kind, kind]
    exact = [np.asarray(x.astype(jnp.float32), np.float64) for x in (a, b, cotangent)]
    for found, wanted in (
        (y, np.einsum(f"{of_a},{of_b}->{of_result}", exact[0], exact[1])),
        (gradients[0], np.einsum(f"{of_result},{of_b}->{of_a}", exact[2], exact[1])),
        (gradients[1], np.einsum(f"{of_result},{of_a}->{of_b}", exact[2], exact[0])),
    ):
        tolerance = 1e-6 if found.dtype == jnp.float32 else 2**-8  # One rounding of the result.
        np.testing.assert_allclose(found.astype(jnp.float32), wanted, rtol=tolerance, atol=1e-5)
