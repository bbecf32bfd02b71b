"""What the compiled step of a mesh holds and sends, by sizes that can be told apart."""

import math
import re

import jax
import pytest

from roberta_jax.parallel.tables import path_name, shardings
from tests.train.meshes import Stepper, programs_on, small_config, small_mesh

# No product of two others: V is 344 (340 in multiples of 8), T 44, F 104.
VOCABULARY, LENGTH, INSIDE = 344, 44, 104
ROWS = 3  # Of a microbatch, on a device.


def distinct_config(rows_shards=1, **encoder):
    sizes = {
        "vocab_size": 340,
        "hidden_size": 24,
        "num_heads": 4,
        "mlp_size": INSIDE,
        "max_positions": LENGTH,
    }
    return small_config(batch_size=2 * ROWS * rows_shards, **(sizes | encoder))


def shapes_of(text):
    """The shapes of all arrays of a program, per device."""
    found = re.findall(r"\b(?:f32|bf16|s32|u32|pred)\[([\d,]+)\]", text)
    return {tuple(map(int, sizes.split(","))) for sizes in found}


@pytest.fixture(scope="module")
def text():
    """Of a mesh that splits rows, tokens, and heads, MLP and vocabulary."""
    return Stepper(distinct_config(), (1, 1, 4, 2), begin={}).text()


def test_no_device_ever_has_the_logits_or_the_table_of_the_whole_vocabulary(text):
    shapes = shapes_of(text)
    assert not [shape for shape in shapes if VOCABULARY in shape]
    # It has half of them: of the table, and of the logits of its share of the 7 slots.
    assert (VOCABULARY // 2, 24) in shapes
    assert (ROWS, 2, VOCABULARY // 2) in shapes


def test_a_device_computes_the_mlp_of_its_tokens_only(text):
    inside = {shape for shape in shapes_of(text) if INSIDE // 2 in shape and len(shape) >= 3}
    assert not [shape for shape in shapes_of(text) if INSIDE in shape]
    assert (ROWS, LENGTH // 4, INSIDE // 2) in inside
    assert not [shape for shape in inside if LENGTH in shape or ROWS * LENGTH in shape]


def test_a_device_has_the_keys_of_the_whole_row_for_the_queries_of_its_tokens(text):
    shapes = {tuple(size for size in shape if size > 1) for shape in shapes_of(text)}
    assert (ROWS, 2, LENGTH // 4, LENGTH) in shapes  # Scores of its two heads.
    assert not [shape for shape in shapes if shape.count(LENGTH) > 1]
    assert not [shape for shape in shapes if {LENGTH, 24} <= set(shape)]  # No whole row of states.


@pytest.mark.slow
def test_on_a_mesh_without_tensor_the_vocabulary_is_whole():
    """So the search of the shapes finds what it looks for."""
    shapes = shapes_of(Stepper(distinct_config(), (1, 1, 1, 1), begin={}).text())
    assert (VOCABULARY, 24) in shapes and (ROWS, 7, VOCABULARY) in shapes
    assert (ROWS, LENGTH, INSIDE) in shapes


@pytest.mark.parametrize(
    ("sizes", "of_weights", "of_moments"),
    [((8, 1, 1, 1), 1, 8), ((1, 8, 1, 1), 8, 8), ((2, 4, 1, 1), 4, 8), ((2, 1, 4, 1), 1, 8)],
    ids=str,
)
def test_weights_are_split_over_fsdp_and_moments_over_data_as_well(sizes, of_weights, of_moments):
    config = small_config()
    mesh = small_mesh(sizes)
    shapes = programs_on(config, mesh).shapes
    state = jax.device_put(
        jax.tree.map(lambda leaf: jax.numpy.zeros(leaf.shape, leaf.dtype), shapes),
        shardings(shapes, mesh),
    )

    def bytes_on(device, part):
        return sum(
            shard.data.nbytes
            for path, leaf in jax.tree_util.tree_leaves_with_path(state)
            if re.search(part, path_name(path))
            for shard in leaf.addressable_shards
            if shard.device == device
        )

    # Matrices; LayerNorm and some biases are whole on an fsdp mesh.
    whole = sum(
        math.prod(leaf.shape) * 4
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes.params)
        if path_name(path).endswith(("kernel", "embedding"))
    )
    for device in mesh.devices.flat:
        assert bytes_on(device, "^params/.*(kernel|embedding)$") == whole / of_weights
        assert bytes_on(device, "/(mu|nu)/.*(kernel|embedding)$") == 2 * whole / of_moments
