"""Bytes between devices and to memory, against counts by hand on compiled programs."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from roberta_jax.dryrun.hlo import parse
from roberta_jax.dryrun.traffic import collectives, group_size, memory_bytes

N = 1024


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))


def compiled(function, *shapes, out=None):
    return parse(jax.jit(function, out_shardings=out).lower(*shapes).compile().as_text())


def shape(*sizes, sharding=None):
    return jax.ShapeDtypeStruct(sizes, jnp.float32, sharding=sharding)


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ("channel_id=1, replica_groups={{0,1,2,3},{4,5,6,7}}, use_global_device_ids=true", 4),
        ("channel_id=1, replica_groups=[2,4]<=[8], use_global_device_ids=true", 4),
        ("replica_groups=[4,2]<=[2,4]T(1,0), dimensions={0}", 2),
        ("replica_groups={}, to_apply=%sum", 8),
        ("replica_groups=mesh['axis_0'=16,'axis_1'=2] {'axis_0'}, use_global_device_ids=true", 16),
        ("replica_groups=mesh['a'=16,'b'=2] {'a','b'}, to_apply=%sum", 32),
        ("replica_groups=mesh['a'=16] {'a':(2)4}", 4),
    ],
)
def test_the_size_of_a_group_in_every_notation(attributes, size):
    assert group_size(attributes, 8) == size


def test_a_sum_in_a_loop_counts_as_often_as_it_runs(mesh):
    def local(x):
        step = lambda total, _: (total + jax.lax.psum(x * total, "data"), None)  # noqa: E731
        return jax.lax.scan(step, jnp.zeros((N,)), length=6)[0]

    mapped = jax.shard_map(local, mesh=mesh, in_specs=P("data"), out_specs=P(), check_vma=False)
    module = compiled(mapped, shape(8 * N, sharding=NamedSharding(mesh, P("data"))))
    (kind, found), *others = collectives(module, 8).items()
    assert (kind, others) == ("all-reduce", [])
    assert found.count == 6 and found.payload_bytes == 6 * 4 * N
    assert found.sent_bytes == 6 * 2 * (4 * N * 7 // 8)


def test_a_gather_brings_the_parts_of_the_others(mesh):
    whole = NamedSharding(mesh, P())
    module = compiled(
        lambda x: x * 2, shape(8 * N, sharding=NamedSharding(mesh, P("data"))), out=whole
    )
    found = collectives(module, 8)
    assert set(found) == {"all-gather"}
    assert found["all-gather"].payload_bytes == 4 * 8 * N
    assert found["all-gather"].sent_bytes == 4 * 7 * N


def test_one_device_sends_nothing():
    module = compiled(lambda x: (x @ x).sum(), shape(64, 64))
    assert collectives(module, 1) == {}


def test_a_fusion_reads_its_operands_and_writes_its_result_once():
    module = compiled(lambda x, y: jnp.tanh(x * 2 + y) - y, shape(N, N), shape(N, N))
    assert memory_bytes(module) == 3 * 4 * N * N


def test_of_a_stack_only_the_layer_of_each_turn_is_read():
    layers, width = 16, 256

    def run(stack, x):
        return jax.lax.scan(lambda x, layer: (jnp.tanh(x + layer), None), x, stack)[0]

    moved = memory_bytes(compiled(run, shape(layers, width), shape(width)))
    least = layers * 3 * 4 * width  # A layer and x are read, x is written.
    assert least <= moved < 2 * least  # And not `layers` times the stack, 5 times as much.


def test_what_lies_in_the_small_memory_of_a_tpu_is_not_counted():
    text = """HloModule m, is_scheduled=true

ENTRY %main.1 (a.1: f32[8,128]) -> f32[8,128] {
  %a.1 = f32[8,128]{1,0:T(8,128)} parameter(0)
  %copy-start.1 = (f32[8,128]{1,0:T(8)S(1)}, f32[8,128]{1,0:T(8)}, u32[]{:S(2)}) copy-start(%a.1)
  %copy-done.1 = f32[8,128]{1,0:T(8,128)S(1)} copy-done(%copy-start.1)
  %tanh.1 = f32[8,128]{1,0:T(8,128)S(1)} tanh(%copy-done.1)
  ROOT %exp.1 = f32[8,128]{1,0:T(8,128)} exponential(%tanh.1)
}
"""
    assert memory_bytes(parse(text)) == 2 * 4 * 8 * 128  # Read once, written once.


def test_of_a_stack_only_the_window_is_read_that_an_inner_fusion_takes():
    """As on a TPU: the product's fusion has another one inside, which takes its layer."""
    text = """HloModule m, is_scheduled=true

%window.1 (stack.1: f32[24,256,128], at.1: s32[]) -> f32[256,128] {
  %stack.1 = f32[24,256,128]{2,1,0} parameter(0)
  %at.1 = s32[] parameter(1)
  %zero.1 = s32[] constant(0)
  %slice.1 = f32[1,256,128]{2,1,0} dynamic-slice(%stack.1, %at.1, %zero.1, %zero.1)
  ROOT %flat.1 = f32[256,128]{1,0} bitcast(%slice.1)
}

%product.1 (at.2: s32[], stack.2: f32[24,256,128], x.2: f32[64,256]) -> f32[64,128] {
  %at.2 = s32[] parameter(0)
  %stack.2 = f32[24,256,128]{2,1,0} parameter(1)
  %x.2 = f32[64,256]{1,0} parameter(2)
  %layer.2 = f32[256,128]{1,0} fusion(%stack.2, %at.2), kind=kLoop, calls=%window.1
  ROOT %dot.2 = f32[64,128]{1,0} dot(%x.2, %layer.2), lhs_contracting_dims={1}
}

ENTRY %main.1 (at.3: s32[], stack.3: f32[24,256,128], x.3: f32[64,256]) -> f32[64,128] {
  %at.3 = s32[] parameter(0)
  %stack.3 = f32[24,256,128]{2,1,0} parameter(1)
  %x.3 = f32[64,256]{1,0} parameter(2)
  ROOT %fusion.3 = f32[64,128]{1,0} fusion(%at.3, %stack.3, %x.3), kind=kOutput, calls=%product.1
}
"""
    number = 4  # The layer's place.
    assert memory_bytes(parse(text)) == number + 4 * (256 * 128 + 64 * 256 + 64 * 128)


def test_a_tpu_loop_runs_as_often_as_its_condition_says():
    text = """HloModule m, is_scheduled=true

%condition.1 (state.1: (s32[], bf16[4])) -> pred[] {
  %limit.1 = s32[]{:T(128)} constant(12), metadata={op_name="x"}
  %state.1 = (s32[]{:T(128)}, bf16[4]{0}) parameter(0)
  %counter.1 = s32[]{:T(128)} get-tuple-element(%state.1), index=0
  ROOT %lt.1 = pred[]{:T(512)} compare(%counter.1, %limit.1), direction=LT, metadata={op_name="y"}
}

%body.1 (state.2: (s32[], bf16[4])) -> (s32[], bf16[4]) {
  %state.2 = (s32[]{:T(128)}, bf16[4]{0}) parameter(0)
  %counter.2 = s32[]{:T(128)} get-tuple-element(%state.2), index=0
  %x.2 = bf16[4]{0} get-tuple-element(%state.2), index=1
  %y.2 = bf16[4]{0} all-reduce(%x.2), replica_groups={{0,1}}, to_apply=%sum
  ROOT %out.2 = (s32[]{:T(128)}, bf16[4]{0}) tuple(%counter.2, %y.2)
}

ENTRY %main.2 (start.3: (s32[], bf16[4])) -> (s32[], bf16[4]) {
  %start.3 = (s32[]{:T(128)}, bf16[4]{0}) parameter(0)
  ROOT %while.3 = (s32[]{:T(128)}, bf16[4]{0}) while(%start.3), condition=%condition.1, body=%body.1
}
"""
    found = collectives(parse(text), 2)["all-reduce"]
    assert (found.count, found.payload_bytes, found.sent_bytes) == (12, 12 * 8, 12 * 8)
