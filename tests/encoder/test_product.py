import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from roberta_jax.encoder.model import bind
from roberta_jax.encoder.product import Linear, add_bias, normal_init, product, sum_of_rows
from tests.encoder.tiny import CONFIG, generator, random_params, random_tokens

# Narrow to wide, wide to narrow (another branch of the gradient), square; one to three row axes.
SHAPES = [((7,), 8, 24), ((2, 5), 24, 8), ((2, 3, 4), 16, 16)]


def draw(rows, inputs, outputs, transposed):
    source = generator(inputs)
    shape = (outputs, inputs) if transposed else (inputs, outputs)
    return tuple(
        source.standard_normal(shape).astype(np.float32)
        for shape in ((*rows, inputs), shape, (*rows, outputs))
    )


def rounded(x):
    """To bfloat16 and back."""
    return np.asarray(jnp.asarray(x).astype(jnp.bfloat16).astype(jnp.float32), np.float64)


def value_and_gradients(x, weight, cotangent, *options):
    def run(x, weight, cotangent):
        y, pullback = jax.vjp(lambda x, w: product(x, w, *options), x, weight)
        return y, *pullback(cotangent.astype(y.dtype))

    return jax.jit(run)(x, weight, cotangent)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
def test_float32_value_and_gradients_are_those_of_dot(rows, inputs, outputs, transposed):
    x, weight, cotangent = draw(rows, inputs, outputs, transposed)
    y, x_gradient, weight_gradient = value_and_gradients(
        x, weight, cotangent, jnp.float32, jnp.float32, transposed
    )
    plain, pullback = jax.vjp(lambda x, w: jnp.dot(x, w.T if transposed else w), x, weight)
    expected_x, expected_weight = pullback(cotangent)
    np.testing.assert_allclose(y, plain, rtol=0, atol=5e-6)
    np.testing.assert_allclose(x_gradient, expected_x, rtol=0, atol=5e-6)
    np.testing.assert_allclose(weight_gradient, expected_weight, rtol=0, atol=1e-5)
    assert weight_gradient.shape == weight.shape


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
def test_bfloat16_rounds_the_operands_and_neither_the_sum_nor_the_gradient_of_the_weight(
    rows, inputs, outputs, transposed
):
    x, weight, cotangent = draw(rows, inputs, outputs, transposed)
    y, x_gradient, weight_gradient = value_and_gradients(
        x, weight, cotangent, jnp.bfloat16, jnp.float32, transposed
    )
    low_weight = rounded(weight).T if transposed else rounded(weight)
    low_x, low_cotangent = rounded(x), rounded(cotangent)
    np.testing.assert_allclose(y, low_x @ low_weight, rtol=0, atol=5e-6)
    np.testing.assert_allclose(x_gradient, low_cotangent @ low_weight.T, rtol=0, atol=5e-6)
    expected = np.tensordot(low_x, low_cotangent, (range(len(rows)), range(len(rows))))
    assert weight_gradient.dtype == jnp.float32
    np.testing.assert_allclose(
        weight_gradient, expected.T if transposed else expected, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("kind", [jnp.bfloat16, jnp.float32])
def test_the_result_has_the_type_asked_and_the_gradient_of_x_the_type_of_x(kind, transposed):
    x, weight, cotangent = draw((4,), 8, 24, transposed)
    for result in (jnp.bfloat16, jnp.float32):
        y, x_gradient, weight_gradient = value_and_gradients(
            x.astype(kind), weight, cotangent, jnp.bfloat16, result, transposed
        )
        assert (y.dtype, x_gradient.dtype, weight_gradient.dtype) == (result, kind, jnp.float32)


def test_rows_are_summed_in_float32():
    # 3000 times 1 + 2⁻⁷: sums in bfloat16 stop growing at 256.
    x = jnp.full((30, 100, 5), 1 + 2**-7, jnp.bfloat16) * jnp.arange(1, 6, dtype=jnp.bfloat16)
    total = sum_of_rows(x)
    assert (total.shape, total.dtype) == ((5,), jnp.float32)
    np.testing.assert_array_equal(total, np.asarray(x, np.float64).sum((0, 1)))


def test_add_bias_keeps_the_type_of_x_and_sums_the_gradient_in_float32():
    x = jnp.ones((3000, 4), jnp.bfloat16)
    bias = np.array([0, 1, -0.5, 2], np.float32)
    y, pullback = jax.vjp(add_bias, x, bias)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y[0].astype(np.float32), 1 + bias)
    cotangent = jnp.full((3000, 4), 1 + 2**-7, jnp.bfloat16)
    x_gradient, bias_gradient = pullback(cotangent)
    np.testing.assert_array_equal(x_gradient, cotangent)
    assert bias_gradient.dtype == jnp.float32
    np.testing.assert_array_equal(bias_gradient, np.full(4, 3000 * (1 + 2**-7)))


@pytest.mark.parametrize("deviation", [0.02, 0.09])
def test_initial_weights_are_normal_with_the_deviation_given_and_not_truncated(deviation):
    config = dataclasses.replace(CONFIG, initializer_range=deviation)
    weights = normal_init(config)(jax.random.key(0), (400, 500), jnp.float32)
    weights = np.asarray(weights, np.float64) * 0.02 / deviation
    beyond = (np.abs(weights) > 0.04).mean()
    # Five standard errors of 200,000 draws; a truncated normal has nothing beyond 2 sigma.
    assert abs(weights.mean()) < 5 * 0.02 / 447
    assert abs(weights.std() / 0.02 - 1) < 5 / np.sqrt(2 * 200_000)
    assert abs(beyond - 0.0455) < 5 * np.sqrt(0.0455 * 0.9545 / 200_000)


def test_linear_multiplies_and_adds_in_the_compute_type_with_float32_weights():
    for kind, tolerance in (("float32", 5e-6), ("bfloat16", 0.05)):
        config = dataclasses.replace(CONFIG, compute_dtype=kind)
        layer = Linear(24, 8, config, rngs=nnx.Rngs(0))
        assert layer.kernel[...].dtype == layer.bias[...].dtype == jnp.float32
        assert not np.any(layer.bias[...])
        x, weight, _ = draw((3,), 24, 8, False)
        bias = np.linspace(-1, 1, 8, dtype=np.float32)
        layer.kernel[...], layer.bias[...] = jnp.asarray(weight), jnp.asarray(bias)
        y = layer(x)
        assert y.dtype == kind
        np.testing.assert_allclose(
            y.astype(np.float32), x.astype(np.float64) @ weight + bias, rtol=0.01, atol=tolerance
        )


def products_in(function, *arguments):
    """(operand types, result type, precision) of every product in the program."""
    found = []

    def look(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "dot_general":
                kinds = tuple(str(variable.aval.dtype) for variable in equation.invars)
                result = str(equation.outvars[0].aval.dtype)
                found.append((kinds, result, equation.params["precision"]))
            for inner in jax.tree.leaves(
                equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
            ):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    look(inner)

    look(jax.make_jaxpr(function)(*arguments).jaxpr)
    return found


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_every_product_of_a_training_step_has_operands_of_one_type_and_a_float32_sum(kind):
    config = dataclasses.replace(CONFIG, compute_dtype=kind)
    params, tokens = random_params(), random_tokens(1)

    def loss(params):
        keys = np.array([1, 2, 3], np.uint32)[: len(tokens)]
        return bind(config, params)(tokens, jnp.zeros((len(tokens), 2), jnp.int32), keys).sum()

    found = products_in(jax.grad(loss), params)
    assert len(found) >= 3 * 8  # Four projections, two of the MLP, two of the attention.
    for kinds, result, precision in found:
        assert kinds[0] == kinds[1] and result == "float32", (kinds, result)
        if kinds[0] == "float32":  # TPUs and GPUs would else round to bfloat16 or TF32.
            assert set(precision) == {jax.lax.Precision.HIGHEST}
    if kind == "bfloat16":
        # In float32 are only the sums of rows, the gradients of LayerNorm's scale and bias.
        assert sum(kinds[0] == "bfloat16" for kinds, _, _ in found) >= 3 * 8
