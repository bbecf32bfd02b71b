import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roberta_jax.config import MeshConfig
from roberta_jax.optim.moments import scale_by_moments
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.parallel.tables import shardings
from tests.optim.leaves import nested


def moments(**settings):
    settings = {
        "beta1": 0.9,
        "beta2": 0.98,
        "epsilon": 1e-6,
        "bias_correction": True,
        "dtype": jnp.dtype("float32"),
    } | settings
    transformation = scale_by_moments(**settings)
    return transformation.init, jax.jit(transformation.update)


def bfloat16_moments(**settings):
    return moments(dtype=jnp.dtype("bfloat16"), **settings)


@pytest.mark.parametrize("bias_correction", [True, False])
@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.98), (0.9, 0.999), (0.0, 0.0)])
def test_the_directions_are_those_of_numpy(bias_correction, beta1, beta2):
    source = np.random.Generator(np.random.Philox(key=1))
    init, update = moments(beta1=beta1, beta2=beta2, bias_correction=bias_correction)
    state = init({"a": jnp.zeros(64)})
    m, v = np.zeros(64), np.zeros(64)
    for step in range(1, 301):
        # Some much larger than the rest, after which little must not be lost beside much.
        gradient = np.float32(source.standard_normal(64) * (1e3 if step % 100 == 7 else 1))
        direction, state = update({"a": gradient}, state)
        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * np.square(gradient, dtype=np.float64)
        weights = (1 - beta1**step, 1 - beta2**step) if bias_correction else (1, 1)
        expected = m / weights[0] / (np.sqrt(v / weights[1]) + 1e-6)
        np.testing.assert_allclose(direction["a"], expected, rtol=2e-6, atol=1e-6)
        np.testing.assert_allclose(state.nu["a"], v, rtol=2e-6)
    assert state.count == 300 and state.count.dtype == jnp.int32


def test_a_constant_gradient_has_the_direction_of_its_sign_all_along():
    init, update = moments(beta2=0.999)
    gradient = {"a": jnp.array([3.0, -0.25])}
    state = init(gradient)
    for _ in range(1000):
        direction, state = update(gradient, state)
        np.testing.assert_allclose(direction["a"], [1, -1], rtol=6e-6)


def test_rounded_moments_are_right_on_average():
    shape = (512, 512)
    init, update = bfloat16_moments(beta1=0.9, beta2=0.999)
    gradient = {"a": jnp.full(shape, 1.2345)}
    state = init(gradient)
    for step in range(1, 21):
        _, state = update(gradient, state)
        assert state.mu["a"].dtype == state.nu["a"].dtype == jnp.bfloat16
        first, second = np.asarray(state.mu["a"], np.float64), np.asarray(state.nu["a"], np.float64)
        np.testing.assert_allclose(first.mean(), 1.2345 * (1 - 0.9**step), rtol=5e-5)
        np.testing.assert_allclose(second.mean(), 1.2345**2 * (1 - 0.999**step), rtol=5e-5)


def test_a_rounded_moment_does_not_get_stuck():
    init, update = bfloat16_moments(beta2=0.999)
    state = init({"a": jnp.zeros(1 << 14)})
    state = state._replace(nu={"a": jnp.ones(1 << 14, jnp.bfloat16)})
    # Rounded to the nearest, 0.999 is 1.
    assert jnp.bfloat16(0.999) == 1
    for _ in range(1000):
        _, state = update({"a": jnp.zeros(1 << 14)}, state)
    np.testing.assert_allclose(np.asarray(state.nu["a"], np.float64).mean(), 0.999**1000, rtol=5e-3)


def test_the_rounding_is_the_same_every_time_and_differs_by_step_leaf_moment_and_place():
    names = ("a", "b")
    init, update = bfloat16_moments(beta1=0.0, beta2=0.0)
    # Three quarters of the way between two numbers of bfloat16; its square is half of the way.
    gradient = {name: jnp.full(4096, np.float32(1 - 2**-10)) for name in names}
    runs = []
    for _ in range(2):
        _, first = update(gradient, init(gradient))
        _, second = update(gradient, first)
        runs.append([state.mu[name] for state in (first, second) for name in names])
        runs[-1] += [state.nu[name] for state in (first, second) for name in names]
    jax.tree.map(np.testing.assert_array_equal, *runs)
    ups = [np.asarray(leaf, np.float32) == 1 for leaf in runs[0]]
    for up in ups[:4]:
        assert abs(up.mean() - 0.75) < 5 * 0.44 / 64
    for number, up in enumerate(ups):
        for other in ups[:number]:
            assert abs(np.corrcoef(up, other)[0, 1]) < 5 / 64
        assert abs(np.corrcoef(up[1:], up[:-1])[0, 1]) < 5 / 64


def test_moments_that_are_no_numbers_stay_so():
    init, update = bfloat16_moments()
    gradient = {"a": jnp.array([np.inf, np.nan, 1.0, 0.0])}
    _, state = update(gradient, init(gradient))
    np.testing.assert_array_equal(np.isinf(state.mu["a"]), [True, False, False, False])
    np.testing.assert_array_equal(np.isnan(state.nu["a"]), [False, True, False, False])
    assert state.mu["a"][3] == 0 == state.nu["a"][3]


@functools.cache
def gradients_of_a_model():
    shapes = {
        "embedding/token/embedding": (48, 16),
        "layers/mlp/up/kernel": (3, 16, 24),
        "layers/mlp/up/bias": (3, 24),
        "layers/mlp/down/kernel": (3, 24, 16),
        "head/norm/scale": (16,),
    }
    source = np.random.Generator(np.random.Philox(key=3))
    return [
        nested({name: np.float32(source.standard_normal(shape)) for name, shape in shapes.items()})
        for _ in range(3)
    ]


def bfloat16_state(mesh_config):
    """After three updates, on the devices of a mesh or on one."""
    gradients = gradients_of_a_model()
    transformation = scale_by_moments(
        beta1=0.9, beta2=0.98, epsilon=1e-6, bias_correction=True, dtype=jnp.dtype("bfloat16")
    )
    state = transformation.init(gradients[0])
    update = jax.jit(transformation.update)
    if mesh_config is not None:
        mesh = make_mesh(mesh_config)
        placed = shardings((gradients[0], state), mesh)
        update = jax.jit(transformation.update, in_shardings=placed, out_shardings=placed)
    for gradient in gradients:
        _, state = update(gradient, state)
    return state


@pytest.fixture(scope="module")
def state_on_one_device():
    return bfloat16_state(None)


@pytest.mark.parametrize("axes", [(8, 1, 1), (1, 8, 1), (2, 2, 2)])
def test_the_bits_of_the_moments_do_not_depend_on_the_sharding(axes, state_on_one_device):
    state = bfloat16_state(MeshConfig(data=axes[0], fsdp=axes[1], tensor=axes[2]))
    jax.tree.map(np.testing.assert_array_equal, state, state_on_one_device)
    kernel = state.mu["layers"]["mlp"]["up"]["kernel"]
    assert kernel.dtype == jnp.bfloat16
    # Every device has a part of its own, over the data axis as well.
    assert len({str(shard.index) for shard in kernel.addressable_shards}) == 8


def test_training_with_rounded_moments_stays_near_training_without():
    source = np.random.Generator(np.random.Philox(key=4))
    target = jnp.float32(source.standard_normal(4096))
    noise = [jnp.float32(source.standard_normal(4096)) for _ in range(200)]
    ends = {}
    for dtype in ("float32", "bfloat16"):
        init, update = moments(beta2=0.98, dtype=jnp.dtype(dtype))
        weights = {"a": jnp.zeros(4096)}
        state = init(weights)
        for step in range(200):
            gradient = {"a": weights["a"] - target + 0.3 * noise[step]}
            direction, state = update(gradient, state)
            weights = {"a": weights["a"] - 0.02 * (1 - step / 200) * direction["a"]}
        ends[dtype] = weights["a"]
    np.testing.assert_allclose(
        jnp.linalg.norm(ends["bfloat16"] - ends["float32"]) / jnp.linalg.norm(target), 0, atol=0.01
    )
    losses = {dtype: jnp.mean((end - target) ** 2) for dtype, end in ends.items()}
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=0.01)
    assert losses["float32"] < 0.1
