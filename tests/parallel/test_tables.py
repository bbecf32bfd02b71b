import dataclasses
import math
import pathlib
import re
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from roberta_jax.config import (
    EncoderConfig,
    MeshConfig,
    OptimizerConfig,
    PretrainConfig,
    TrainConfig,
)
from roberta_jax.encoder.model import init_params
from roberta_jax.encoder.task_model import TaskHead, abstract_task_params
from roberta_jax.optim.optimizer import make_optimizer
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.parallel.tables import (
    ACTIVATION_SPECS,
    PARAM_SPECS,
    abstract,
    batch_sharding,
    constrain,
    constrain_like_moments,
    constrain_microbatches,
    moment_spec,
    path_name,
    shardings,
    spec_of,
    sum_over_data,
)
from roberta_jax.train.state import init_state
from tests.encoder.tiny import CONFIG, initial_params

BASE = EncoderConfig(vocab_size=50_265)
TINY = PretrainConfig(encoder=CONFIG, train=TrainConfig(batch_size=8), optimizer=OptimizerConfig())


def mesh_of(*sizes):
    data, fsdp, tensor = sizes
    return make_mesh(MeshConfig(data=data, fsdp=fsdp, tensor=tensor))


def named(tree):
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def state_shapes(encoder=BASE, clip_global_norm=1.0):
    config = dataclasses.replace(
        TINY,
        encoder=encoder,
        optimizer=OptimizerConfig(clip_global_norm=clip_global_norm),
    )
    optimizer = make_optimizer(config.optimizer)
    return jax.eval_shape(lambda: init_state(config, optimizer))


def bert_classifier_shapes():
    head = TaskHead(task="classification", num_outputs=3)
    return abstract_task_params(dataclasses.replace(BASE, num_token_types=2), head)


@pytest.mark.parametrize("clip_global_norm", [math.inf, 1.0])
def test_every_array_of_the_state_has_a_spec_of_no_higher_rank(clip_global_norm):
    leaves = named(state_shapes(clip_global_norm=clip_global_norm))
    moments = [name for name in leaves if "/mu/" in name or "/nu/" in name]
    params = [name for name in leaves if name.startswith("params/")]
    assert len(moments) == 2 * len(params) == 2 * 25
    for name, leaf in leaves.items():
        assert len(spec_of(name)) <= leaf.ndim, name


def test_moments_have_the_row_of_their_parameter():
    leaves = named(state_shapes())
    for name in leaves:
        if name.startswith("params/"):
            short = name.removeprefix("params/")
            same = [other for other in leaves if other.endswith(f"/{short}")]
            assert len(same) == 3
            assert len({spec_of(other) for other in same}) == 1


def recipes():
    """The config of every shipped recipe, with a vocabulary."""
    folder = pathlib.Path(__file__).parents[2] / "configs" / "pretrain"
    for path in sorted(folder.rglob("*.py")):
        config = runpy.run_path(str(path))["get_config"]()
        encoder = dataclasses.replace(config.encoder, vocab_size=50_265)
        yield path.stem, dataclasses.replace(config, encoder=encoder)


def rows_of(name):
    """The rows of the table that cover a path."""
    return {
        number
        for number, (pattern, _) in enumerate(PARAM_SPECS)
        if re.search(f"(^|/){pattern}$", name)
    }


def test_the_table_covers_every_array_of_every_recipe_by_one_row_and_has_no_other_row():
    used, kinds = set(), set()
    for recipe, config in recipes():
        kinds.add((config.optimizer.kind, config.encoder.next_sentence_head))
        for average_decay in (0.0, 0.999):
            optimizer = dataclasses.replace(config.optimizer, average_decay=average_decay)
            one = dataclasses.replace(config, optimizer=optimizer)
            shapes = jax.eval_shape(lambda one=one: init_state(one, make_optimizer(one.optimizer)))
            assert any(name.startswith("average/") for name in named(shapes)) == (average_decay > 0)
            for name, leaf in named(shapes).items():
                rows = rows_of(name)
                assert len(rows) == 1, (recipe, name, rows)
                assert len(spec_of(name)) <= leaf.ndim
                used |= rows
    assert {kind for kind, _ in kinds} == {"adamw", "lamb"}
    assert {pairs for _, pairs in kinds} == {False, True}
    assert used == set(range(len(PARAM_SPECS)))


def test_the_table_covers_fine_tuning_by_one_row():
    for name in named(bert_classifier_shapes()):
        assert len(rows_of(name)) == 1, name


@pytest.mark.parametrize(
    "name", ["params/embedding/type/embedding", "head/dense/kernel/x", "discount"]
)
def test_a_path_that_no_row_covers_is_an_error_that_names_it(name):
    with pytest.raises(KeyError, match=name):
        spec_of(name)
    *folders, last = name.split("/")
    tree = {last: jnp.zeros(3)}
    for folder in reversed(folders):
        tree = {folder: tree}
    with pytest.raises(KeyError, match=name):
        shardings(tree, mesh_of(8, 1, 1))


def per_device(shapes, mesh):
    return {
        name: (leaf.shape, sharding.shard_shape(leaf.shape))
        for (name, leaf), sharding in zip(
            named(shapes).items(), jax.tree.leaves(shardings(shapes, mesh)), strict=True
        )
    }


def of_the_update(name):
    return "/mu/" in name or "/nu/" in name or name.startswith("average/")


def test_on_a_data_mesh_every_device_has_all_weights_and_a_part_of_the_moments():
    parts = per_device(state_shapes(), mesh_of(8, 1, 1))
    assert all(whole == part for name, (whole, part) in parts.items() if not of_the_update(name))
    moments = [shapes for name, shapes in parts.items() if of_the_update(name)]
    assert len(moments) == 50
    held = sum(math.prod(part) for _, part in moments)
    total = sum(math.prod(whole) for whole, _ in moments)
    assert total / 8 <= held < 1.001 * total / 8  # ZeRO, stage 1.


@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 4, 1), (2, 2, 2), (4, 1, 2), (1, 8, 1)])
def test_moments_are_split_over_the_data_axis_whatever_the_parameters(sizes):
    parts = per_device(state_shapes(), mesh_of(*sizes))
    for name, (_, part) in parts.items():
        if name.startswith("params/"):
            short = name.removeprefix("params/")
            for moment in ("mu", "nu"):
                held = math.prod(parts[f"optimizer/1/{moment}/{short}"][1])
                assert held * sizes[0] == math.prod(part), name


@pytest.mark.parametrize(
    ("spec", "shape", "expected"),
    [
        (P(), (12, 768), P(None, "data")),
        (P(None, "fsdp"), (514, 768), P(None, ("fsdp", "data"))),
        (P("tensor", "fsdp"), (50_304, 768), P(("tensor", "data"), "fsdp")),
        (P(None, "fsdp", "tensor"), (12, 768, 3072), P(None, "fsdp", ("tensor", "data"))),
        (P(), (8, 3), P("data", None)),
        (P(), (5, 3), P()),
        (P(), (), P()),
    ],
)
def test_the_longest_axis_that_divides_is_split_further(spec, shape, expected):
    assert moment_spec(spec, shape, mesh_of(2, 2, 2)) == expected


def test_moments_are_split_over_the_context_axis_as_well():
    mesh = make_mesh(MeshConfig(data=2, context=2, tensor=2))
    spec = P(None, "fsdp", "tensor")
    assert moment_spec(spec, (2, 8, 32), mesh) == P(None, "fsdp", ("tensor", "data", "context"))
    # Over both where an axis can be, else over the data axis alone.
    assert moment_spec(P(), (6, 4), mesh) == P(None, ("data", "context"))
    assert moment_spec(P(), (6,), mesh) == P("data")
    assert moment_spec(P(), (3,), mesh) == P()


def test_a_gradient_is_split_as_the_moments_before_the_update():
    gradient = {"layers": {"mlp": {"up": {"kernel": jnp.ones((2, 16, 32))}}}}
    with jax.set_mesh(mesh_of(4, 2, 1)):
        split = jax.jit(constrain_like_moments)(gradient)
    assert split["layers"]["mlp"]["up"]["kernel"].sharding.shard_shape((2, 16, 32)) == (2, 8, 8)
    assert constrain_like_moments(gradient) is gradient  # Without a mesh.


@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 4, 1), (4, 1, 2), (2, 2, 2), (1, 8, 1)])
def test_a_sum_over_rows_is_the_same_on_any_mesh(sizes):
    rows = np.arange(64, dtype=np.float32).reshape(16, 4)
    weight = np.full(4, 0.5, np.float32)

    def weighted(shared, batch):
        states = constrain(batch[:, None, :], "hidden")  # Works inside as well.
        return {"sum": (states[:, 0] * shared).sum(axis=0), "count": jnp.float32(len(batch))}

    mesh = mesh_of(*sizes)
    with jax.set_mesh(mesh):
        found = jax.jit(lambda w, r: sum_over_data(weighted, w, r))(
            weight, jax.device_put(rows, batch_sharding(mesh))
        )
    np.testing.assert_allclose(found["sum"], rows.sum(axis=0) * 0.5)
    assert found["count"] == 16


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (
            (1, 4, 2),
            {
                "params/embedding/token/embedding": (50_304 // 2, 768 // 4),
                "params/embedding/position/embedding": (514, 768 // 4),
                "params/layers/attention/query/kernel": (12, 768 // 4, 768 // 2),
                "params/layers/attention/value/bias": (12, 768 // 2),
                "params/layers/attention/out/kernel": (12, 768 // 2, 768 // 4),
                "params/layers/attention/out/bias": (12, 768),
                "params/layers/mlp/up/kernel": (12, 768 // 4, 3072 // 2),
                "params/layers/mlp/up/bias": (12, 3072 // 2),
                "params/layers/mlp/down/kernel": (12, 3072 // 2, 768 // 4),
                "params/layers/mlp_norm/scale": (12, 768),
                "params/head/dense/kernel": (768 // 4, 768),
                "params/head/bias": (50_304 // 2,),
                "step": (),
            },
        ),
        (
            (1, 8, 1),
            {
                "params/embedding/token/embedding": (50_304, 768 // 8),
                "params/layers/mlp/up/kernel": (12, 768 // 8, 3072),
                "params/layers/mlp/down/kernel": (12, 3072, 768 // 8),
            },
        ),
        (
            (1, 1, 8),
            {
                "params/embedding/token/embedding": (50_304 // 8, 768),
                "params/layers/mlp/up/kernel": (12, 768, 3072 // 8),
                "params/layers/mlp/down/kernel": (12, 3072 // 8, 768),
            },
        ),
    ],
)
def test_on_tensor_and_fsdp_meshes_a_device_has_a_part_of_base(sizes, expected):
    parts = per_device(state_shapes(), mesh_of(*sizes))
    assert {name: parts[name][1] for name in expected} == expected
    total = sum(math.prod(whole) for whole, _ in parts.values())
    held = sum(math.prod(part) for _, part in parts.values())
    shards = sizes[1] * sizes[2]
    # What stays whole: LayerNorm, some biases, and over `tensor` the positions and head/dense.
    assert total / shards <= held < 1.1 * total / shards


def test_weights_drawn_on_a_mesh_are_those_of_one_device():
    mesh = mesh_of(2, 2, 2)
    placed = shardings(initial_params(), mesh)
    spread = jax.jit(lambda: init_params(CONFIG, jax.random.key(0)), out_shardings=placed)()
    for (name, ours), theirs in zip(
        named(spread).items(), jax.tree.leaves(initial_params()), strict=True
    ):
        assert ours.sharding == NamedSharding(mesh, spec_of(name))
        np.testing.assert_allclose(ours, theirs, rtol=2e-6, err_msg=name)


def test_abstract_has_shape_type_and_sharding():
    mesh = mesh_of(1, 4, 2)
    shapes = state_shapes()
    target = abstract(shapes, mesh)
    assert jax.tree.structure(target) == jax.tree.structure(shapes)
    for (name, ours), theirs in zip(named(target).items(), jax.tree.leaves(shapes), strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        spec = spec_of(name)
        if of_the_update(name):
            spec = moment_spec(spec, theirs.shape, mesh)
        assert ours.sharding == NamedSharding(mesh, spec)


def test_batches_are_split_by_row_over_data_and_fsdp():
    assert batch_sharding(mesh_of(2, 2, 2)).shard_shape((8, 16)) == (2, 16)
    assert batch_sharding(mesh_of(1, 1, 8)).shard_shape((8, 16)) == (8, 16)


def test_constraints_do_nothing_without_a_mesh():
    x = jnp.zeros((8, 4, 16))
    for place in ACTIVATION_SPECS:
        assert constrain(x, place) is x
    assert constrain_microbatches(x) is x


@pytest.mark.parametrize(
    ("place", "shape", "on_rows", "on_tokens"),
    [
        ("table", (16, 8), (8, 8), (8, 8)),
        ("small_table", (16, 8), (16, 8), (16, 8)),
        ("ids", (8, 16), (2, 16), (8, 4)),
        ("hidden", (8, 16, 4), (2, 16, 4), (8, 4, 4)),
        ("heads", (8, 16, 2, 4), (2, 16, 1, 4), (8, 4, 1, 4)),
        ("attended", (8, 16, 2, 4), (2, 16, 1, 4), (8, 16, 1, 4)),
        ("masked_hidden", (8, 3, 4), (2, 3, 4), (8, 1, 4)),  # Filled up to 4 slots.
        ("logits", (8, 5, 16), (2, 5, 8), (8, 2, 8)),
    ],
)
def test_constraints_split_activations_under_a_mesh(place, shape, on_rows, on_tokens):
    for mesh, part in (
        (mesh_of(2, 2, 2), on_rows),
        (make_mesh(MeshConfig(data=1, context=4, tensor=2)), on_tokens),
    ):
        x = np.zeros(shape, np.float32)
        with jax.set_mesh(mesh):
            run = jax.jit(lambda x: constrain(x + 1, place)).lower(x).compile()
        assert f"f32[{','.join(map(str, part))}]" in run.as_text(), place


def test_constraints_split_microbatches_by_row():
    x = np.zeros((8, 4, 16), np.float32)
    with jax.set_mesh(mesh_of(2, 2, 2)):
        split = jax.jit(lambda x: constrain_microbatches({"a": x + 1}))(x)["a"]
        # [microbatches, rows, …]: every device has rows of every microbatch.
        assert split.sharding.shard_shape(split.shape) == (8, 1, 16)
        with pytest.raises(KeyError):
            constrain(jnp.zeros((8, 4, 16)), "nowhere")


def test_a_path_is_written_with_slashes():
    ((path, _),) = jax.tree_util.tree_flatten_with_path({"layers": [{"bias": 1}]})[0]
    assert path_name(path) == "layers/0/bias"
    assert spec_of("head/bias") == P("tensor")
