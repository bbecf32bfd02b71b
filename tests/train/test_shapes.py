import dataclasses
import math
import re
import types

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax import config as c
from roberta_jax.encoder.model import abstract_params
from roberta_jax.errors import UserError
from roberta_jax.parallel.mesh import AXES, mesh_of
from roberta_jax.parallel.tables import shardings
from roberta_jax.train.shapes import check_shapes


def run(*, length=32, phases=(), **encoder):
    sizes = {"vocab_size": 300, "vocab_padding_multiple": 8, "hidden_size": 256, "num_heads": 4}
    return c.PretrainConfig(
        data=c.DataConfig(sequence_length=length),
        encoder=c.EncoderConfig(**{**sizes, "mlp_size": 1024, **encoder}),
        phases=phases,
    )


def mesh(**sizes):
    """Only its shape is looked at."""
    return types.SimpleNamespace(shape={axis: sizes.get(axis, 1) for axis in AXES})


@pytest.mark.parametrize(
    ("config", "sizes", "message"),
    [
        # The shapes of the weights would divide, and a head would be on two devices.
        (
            run(),
            {"tensor": 8},
            "The mesh data=1 x fsdp=1 x tensor=8 cannot split the weights evenly: mesh.tensor=8 "
            "does not divide encoder.num_heads=4. With this config, mesh.tensor can be 1, 2, 4.",
        ),
        (run(mlp_size=1026), {"tensor": 4}, "does not divide encoder.mlp_size=1026"),
        (
            run(vocab_padding_multiple=1, vocab_size=301),
            {"tensor": 2},
            "vocab_padding_multiple=1, size=301. With this config, mesh.tensor can be 1.",
        ),
        (
            run(hidden_size=12),
            {"data": 2, "fsdp": 8},
            "mesh.fsdp=8 does not divide encoder.hidden_size=12. With this config, mesh.fsdp can "
            "be 1, 2, 3, 4, 6, 12.",
        ),
        (
            run(length=30),
            {"context": 4},
            "tensor=1 x context=4 cannot split the rows evenly: mesh.context=4 does not divide "
            "data.sequence_length=30.",
        ),
        (
            run(
                phases=(
                    c.PhaseConfig(duration="50%", sequence_length=18),
                    c.PhaseConfig(duration="50%"),
                )
            ),
            {"context": 4},
            "phases[0].sequence_length=18. With this config, mesh.context can be 1, 2.",
        ),
        (
            run(attention_implementation="cudnn", attention_dropout_rate=0.0),
            {"context": 2},
            "cudnn, whose kernel needs whole rows, and mesh.context=2 splits them",
        ),
    ],
)
def test_a_mesh_that_cannot_split_the_run_is_refused_with_what_could(config, sizes, message):
    with pytest.raises(UserError, match=re.escape(message)):
        check_shapes(config, mesh(**sizes))
    check_shapes(config, mesh(data=8))


@given(
    st.sampled_from([16, 24, 36, 48]),
    st.sampled_from([1, 2, 4, 6]),
    st.sampled_from([32, 36, 40]),
    st.sampled_from([2, 8, 12]),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([1, 2, 4, 8]),
)
def test_what_is_accepted_splits_all_weights_evenly_and_no_head(
    width, heads, inside, multiple, fsdp, tensor
):
    if width % heads:
        return
    config = run(
        hidden_size=width, num_heads=heads, mlp_size=inside, vocab_padding_multiple=multiple
    )
    try:
        check_shapes(config, mesh(fsdp=fsdp, tensor=tensor))
    except UserError as error:
        axis, possible = re.findall(r"mesh\.(\w+) can be ([\d, ]+)\.", str(error))[0]
        # What it advises is accepted, as far as this axis goes.
        for size in map(int, possible.split(",")):
            check_shapes(config, mesh(**{axis: size}))
        return
    assert heads % tensor == 0
    if fsdp * tensor > 8:
        return
    sizes = (1, fsdp, 1, tensor)
    shapes = abstract_params(dataclasses.replace(config.encoder, num_layers=2))
    over = shardings(shapes, mesh_of(sizes, jax.devices()[: math.prod(sizes)]))
    jax.tree.map(lambda leaf, sharding: sharding.shard_shape(leaf.shape), shapes, over)
