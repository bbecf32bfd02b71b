"""The state before the first update."""

import jax
import numpy as np

from roberta_jax.optim.optimizer import make_optimizer
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.parallel.tables import path_name, shardings
from roberta_jax.train.state import init_key, init_state
from roberta_jax.train.step import masking_key
from tests.train.runs import tiny_config


def state_of(seed):
    config = tiny_config(encoder__vocab_size=300, seed=seed)
    optimizer = make_optimizer(config.optimizer)
    return jax.jit(lambda: init_state(config, optimizer))()


def test_the_state_is_a_function_of_the_seed():
    one, same, other = state_of(1), state_of(1), state_of(2)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(same), strict=True):
        assert np.asarray(left).tobytes() == np.asarray(right).tobytes()
    kernels = [state.params["layers"]["mlp"]["up"]["kernel"] for state in (one, other)]
    assert (kernels[0] != kernels[1]).mean() > 0.99


def test_it_begins_at_step_zero_with_moments_of_zero():
    state = state_of(1)
    assert state.step == 0 and state.step.dtype == np.int32
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(state.optimizer))
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(state.optimizer)]
    assert sum(name.endswith("layers/mlp/up/kernel") for name in names) == 2  # Both moments.


def test_every_array_of_the_state_has_a_sharding():
    from roberta_jax.config import MeshConfig

    shapes = jax.eval_shape(lambda: state_of(1))
    placed = shardings(shapes, make_mesh(MeshConfig(data=2, fsdp=2, tensor=2)))
    assert len(jax.tree.leaves(placed)) == len(jax.tree.leaves(shapes))


def family(root):
    """The keys that `split` and `fold_in` make of a key, to the second generation."""
    children = [jax.random.fold_in(root, i) for i in range(6)]
    keys = [root, *children, *jax.random.split(root, 3)]
    keys += [jax.random.fold_in(child, i) for child in children for i in range(6)]
    return {tuple(jax.random.key_data(key).tolist()) for key in keys}


def test_no_key_of_the_initial_weights_is_one_of_the_masks():
    assert not family(init_key(7)) & family(masking_key(7))
    assert family(init_key(7)) & family(jax.random.key(7))  # It would be seen.
