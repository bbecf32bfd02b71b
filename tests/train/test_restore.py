"""Weights out of a workdir."""

import jax
import numpy as np
import pytest

from roberta_jax.config import MeshConfig
from roberta_jax.errors import UserError
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.train.restore import load_run
from tests.train import runs


@pytest.mark.parametrize("mesh", [MeshConfig(), MeshConfig(data=2, fsdp=2, tensor=2)], ids=str)
def test_the_weights_of_a_step_on_any_mesh(complete, mesh):
    mesh = make_mesh(mesh)
    config, params, step = load_run(complete, mesh, step=10)
    assert step == 10 and config.encoder.vocab_size == 300
    wanted, _ = runs.restored(complete, 10, config)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        stored = wanted[".params" + jax.tree_util.keystr(path)]
        assert np.asarray(leaf).tobytes() == stored.tobytes()
        assert leaf.sharding.mesh.shape == mesh.shape


def test_the_newest_step_is_the_default(complete):
    assert load_run(complete, make_mesh(MeshConfig()))[2] == 20


def test_what_is_not_there_is_refused(complete, tmp_path):
    mesh = make_mesh(MeshConfig())
    with pytest.raises(UserError, match=r"no checkpoint of step 7. It has: \[5, 10, 15, 20\]"):
        load_run(complete, mesh, step=7)
    with pytest.raises(UserError, match="is not a workdir"):
        load_run(tmp_path, mesh)
    (tmp_path / "config.json").write_bytes((complete / "config.json").read_bytes())
    with pytest.raises(UserError, match="holds no complete checkpoint"):
        load_run(tmp_path, mesh)
    assert not (tmp_path / "checkpoints").exists()
