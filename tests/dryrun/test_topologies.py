"""Names of devices."""

import math

import hypothesis
import pytest
from hypothesis import strategies as st

from roberta_jax.dryrun.chips import CHIPS
from roberta_jax.dryrun.topologies import MOST_CPU_DEVICES, parse_topology
from roberta_jax.errors import UserError


@hypothesis.given(st.sampled_from(sorted(CHIPS)), st.data())
def test_a_topology_has_the_product_of_its_sizes(kind, data):
    count = CHIPS[kind].num_axes
    sizes = data.draw(st.lists(st.integers(1, 64), min_size=count, max_size=count))
    name = f"{kind}:{'x'.join(map(str, sizes))}"
    topology = parse_topology(name)
    assert (topology.name, topology.sizes, topology.chip) == (name, tuple(sizes), CHIPS[kind])
    assert topology.num_devices == math.prod(sizes)
    assert topology.memory_bytes == CHIPS[kind].memory_bytes
    environment = topology.environment()
    assert environment["JAX_PLATFORMS"] == "cpu" and environment["TPU_SKIP_MDS_QUERY"] == "1"
    assert "XLA_FLAGS" not in environment
    assert environment["LIBTPU_INIT_ARGS"] == "--fibers_default_thread_stack_size=4194304"


@hypothesis.given(st.integers(1, MOST_CPU_DEVICES))
def test_a_cpu_has_so_many_fake_devices_and_no_limit(count):
    topology = parse_topology(f"cpu:{count}")
    assert topology.chip is None and topology.num_devices == count
    assert topology.memory_bytes == math.inf
    flag = f"--xla_force_host_platform_device_count={count}"
    assert topology.environment() == {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flag}


@hypothesis.given(st.text(max_size=12))
@hypothesis.example("v5e:")
@hypothesis.example("v5e:0x4")
@hypothesis.example("v5e:4x4x")
@hypothesis.example("v9:4x4")
@hypothesis.example("cpu:٣")
@hypothesis.example("v5e:4x4\n")
def test_any_text_is_a_topology_or_refused_in_one_paragraph(name):
    try:
        topology = parse_topology(name)
    except UserError as error:
        assert "--topology" in str(error)
    else:
        assert topology.name == name and topology.num_devices >= 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", r"--topology is missing.* v4:AxBxC, v5e:AxB, v5p:AxBxC, v6e:AxB .*cpu:N"),
        ("v9:4x4", r"--topology=v9:4x4 is not known. There are v4:AxBxC, v5e:AxB, v5p:AxBxC"),
        ("v5e:4x4\n", "not known"),
        ("v5e:4x4x4", r"v5e chips are wired along 2 axes, such as v5e:4x4\."),
        ("v5p:4x4", r"v5p chips are wired along 3 axes, such as v5p:4x4x4\."),
        ("cpu:2x4", "one number of devices"),
        ("cpu:513", "from 1 to 512"),
    ],
)
def test_what_is_refused_is_told_what_there_is(name, message):
    with pytest.raises(UserError, match=message):
        parse_topology(name)


def test_every_chip_has_a_peak():
    assert {chip.name: chip.peak_flops for chip in CHIPS.values()} == {
        "v4": 275e12,
        "v5e": 197e12,
        "v5p": 459e12,
        "v6e": 918e12,
    }


def test_the_memory_is_what_the_compiler_names():
    memory = {name: round(chip.memory_bytes / 2**30, 2) for name, chip in CHIPS.items()}
    assert memory == {"v4": 30.75, "v5e": 15.75, "v5p": 95.74, "v6e": 31.25}
