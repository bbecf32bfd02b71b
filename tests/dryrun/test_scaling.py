"""The model on paper against a compiled step, against counts by hand, and against its document."""

import dataclasses
import functools
import importlib.util
import math
import pathlib

import jax
import pytest

from roberta_jax.dryrun.chips import CHIPS, GPUS
from roberta_jax.dryrun.compile import dry_run
from roberta_jax.dryrun.flops import matmul_flops
from roberta_jax.dryrun.program import batch_shapes, prepare
from roberta_jax.dryrun.scaling import (
    FAST_PEAK_SHARE,
    NETWORK_HOP_SECONDS,
    ROUNDS,
    SLOW_PEAK_SHARE,
    computed_flops,
    divided_bytes,
    held_bytes,
    most_chips,
    predict,
    sent_bytes,
    weight_bytes,
)
from roberta_jax.dryrun.topologies import parse_topology
from roberta_jax.encoder.model import abstract_params
from roberta_jax.errors import UserError
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.parallel.tables import abstract
from roberta_jax.train.microbatches import with_microbatches
from roberta_jax.train.plan import make_plan
from roberta_jax.train.programs import make_programs
from tests.dryrun.cases import tiny_config

V5E, H100 = CHIPS["v5e"], GPUS["h100"]
ROOT = pathlib.Path(__file__).parents[2]


def phase_of(config):
    return make_plan(config, lambda path: 1).phases[0]


def large_config(**settings):
    shape = {"num_layers": 24, "hidden_size": 1024, "num_heads": 16, "mlp_size": 4096}
    config = tiny_config(
        **{
            "batch_size": 8192,
            "policy": "full",
            "max_positions": 512,
            "vocab_size": 50_265,
            "compute_dtype": "bfloat16",
            **shape,
            **settings,
        }
    )
    config.data.sequence_length = 512
    return config


@functools.cache
def tool():
    spec = importlib.util.spec_from_file_location("scaling", ROOT / "tools" / "scaling.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_a_chip_sends_is_what_the_compiled_step_sends():
    count = 8
    config = tiny_config(num_microbatches=2, hidden_size=64, mlp_size=128)
    (phase,) = dry_run(config, parse_topology(f"cpu:{count}"), math.inf).phases
    assert phase.compiled.sent_bytes == pytest.approx(sent_bytes(config, count), rel=0.02)
    payload = {kind: each.payload_bytes for kind, each in phase.compiled.collectives.items()}
    assert payload["all-reduce"] == pytest.approx(weight_bytes(config), rel=0.02)
    assert payload["all-gather"] == pytest.approx(divided_bytes(config, count), rel=0.02)


def traced_flops(config):
    prepared = prepare(config, parse_topology("cpu:8"), math.inf)
    (phase,) = prepared.plan.phases
    with jax.set_mesh(prepared.mesh):
        programs = make_programs(prepared.config, prepared.plan, prepared.maker, prepared.mesh)
        state = abstract(programs.shapes, prepared.mesh)
        batch = batch_shapes(prepared.config, phase, prepared.maker, prepared.mesh)
        return matmul_flops(programs.steps[0].trace(state, batch).jaxpr)


def test_the_products_are_those_of_the_step():
    shape = {"hidden_size": 128, "mlp_size": 512, "vocab_size": 512}
    none, dots, full = (tiny_config(policy=policy, **shape) for policy in ("none", "dots", "full"))
    traced, model = traced_flops(none), computed_flops(none, phase_of(none))
    # Biases sum their gradients by products of eight columns, which the model leaves out.
    assert model < traced < 1.05 * model
    # What is computed again is known exactly.
    for again in (dots, full):
        assert traced_flops(again) - traced == computed_flops(again, phase_of(again)) - model > 0


@pytest.mark.parametrize("memory", [2**28, 2**24, 2**22])
def test_microbatches_are_those_that_a_run_would_choose(memory):
    config = tiny_config(batch_size=512, num_microbatches=0, hidden_size=64, mlp_size=256)
    plan = with_microbatches(
        config, make_plan(config, lambda path: 1), make_mesh(config.mesh), device_bytes=memory
    )
    chip = dataclasses.replace(V5E, memory_bytes=memory)
    chosen = predict(config, phase_of(config), chip, 8).num_microbatches
    assert chosen == plan.phases[0].num_microbatches


def test_the_weights_of_a_chip_pass_its_memory():
    """16 v5e, two microbatches: (read, read, read again, written + summed in 3) x 2 + gathered."""
    config = large_config()
    whole, own = weight_bytes(config), weight_bytes(config) / 16
    assert whole == pytest.approx(4 * 355_411_033, rel=1e-3)  # And padding.
    moved = whole * ((4 + 3) * 2 + 1) + 7 * own
    assert held_bytes(config, 2, 16) == pytest.approx(moved, rel=1e-3)
    assert held_bytes(config, 1, 16) == pytest.approx(whole * 5 + 7 * own, rel=1e-3)
    assert held_bytes(large_config(policy="none"), 1, 1) == whole * (4 + 7)


def test_what_no_axis_divides_is_neither_divided_nor_gathered():
    config = large_config()
    assert divided_bytes(config, 1) == 0
    assert divided_bytes(config, 16) == pytest.approx(weight_bytes(config), rel=1e-3)
    # Of 2,048 chips, only an MLP's inner axis of 4,096 can be divided.
    mlp = 24 * (2 * 1024 * 4096 + 4096)
    assert divided_bytes(config, 2048) == 4 * mlp


def test_times_on_one_pod_by_hand():
    config = large_config()
    phase = dataclasses.replace(phase_of(config), num_microbatches=2)
    one = predict(config, phase, V5E, 256)
    assert one.products == pytest.approx(1.118e16 / 256 / 197e12, rel=1e-3)
    assert one.links == pytest.approx(sent_bytes(config, 256) / 200e9)
    assert one.slow_links == pytest.approx(4 * one.links)
    assert one.latency == pytest.approx(ROUNDS * 30 * 1e-6)  # 15 hops along each axis.
    assert one.input == pytest.approx(8192 * 512 / 32 / 19.6e6)  # 32 hosts.
    assert one.weights == pytest.approx(held_bytes(config, 2, 256) / 819e9)
    assert one.fastest == pytest.approx(one.products / FAST_PEAK_SHARE)
    assert one.slowest == pytest.approx(
        one.products / SLOW_PEAK_SHARE + one.weights + one.slow_links + one.latency
    )


def test_between_domains_every_chip_sends_its_part():
    config = large_config()
    one = predict(config, phase_of(config), H100, 64)  # Eight machines of eight.
    arrays = 2 * weight_bytes(config) + divided_bytes(config, 64)
    inside, between = arrays * 7 / 8 / 450e9, arrays / 8 * 7 / 8 / 50e9
    assert one.links == pytest.approx(inside + between)
    assert one.slow_links == pytest.approx(2 * inside + between)
    assert one.latency == pytest.approx(ROUNDS * (7 * 3.4e-6 + 3 * NETWORK_HOP_SECONDS))


@pytest.mark.parametrize("chip", [*CHIPS.values(), *GPUS.values()], ids=lambda chip: chip.name)
def test_more_chips_are_faster_and_less_efficient(chip):
    config = large_config()
    every = [predict(config, phase_of(config), chip, 2**power) for power in range(14)]
    for fewer, more in zip(every, every[1:], strict=False):
        assert more.products == pytest.approx(fewer.products / 2)
        assert more.slowest < fewer.slowest
        assert more.efficiency[0] < fewer.efficiency[0] + 0.005  # Fewer microbatches help a little.
        assert more.efficiency[1] <= fewer.efficiency[1]
    for one in every:
        assert one.fastest < one.slowest and max(one.efficiency) <= 1
        assert one.peak_share[0] < one.peak_share[1] < FAST_PEAK_SHARE


@pytest.mark.parametrize("efficiency", [0.8, 0.5])
def test_a_recipe_stops_where_the_next_power_of_two_is_less_efficient(efficiency):
    config = large_config()
    phase = phase_of(config)
    for end, count in enumerate(most_chips(config, phase, H100, efficiency)):
        assert predict(config, phase, H100, count).efficiency[end] >= efficiency
        assert predict(config, phase, H100, 2 * count).efficiency[end] < efficiency


def test_rows_end_a_recipe_too():
    config = large_config(batch_size=48)
    assert most_chips(config, phase_of(config), V5E, 1e-9) == (16, 16)
    with pytest.raises(ValueError, match="48 rows cannot be split over 32 chips"):
        predict(config, phase_of(config), V5E, 32)


def test_a_small_model_waits_for_its_input():
    config = large_config(num_layers=1, hidden_size=64, mlp_size=64, vocab_size=200, num_heads=1)
    one = predict(config, phase_of(config), H100, 8)
    assert one.fastest == one.input and one.waits_for[1] == "input"


def test_gpus_have_their_peaks_and_are_no_topology():
    for chip in GPUS.values():
        assert chip.peak_flops > 3e14
        with pytest.raises(UserError, match="not known"):
            parse_topology(f"{chip.name}:8")


def test_the_document_has_the_tables_that_are_computed():
    text = tool().DOCUMENT.read_text()
    assert tool().with_tables(text) == text, "run tools/scaling.py"
    assert "(scaling.png)" in text and tool().PICTURE.exists()


def test_a_document_without_a_table_is_refused():
    with pytest.raises(SystemExit, match="0 places for the table 'rates'"):
        tool().with_tables("nothing")


def test_the_model_agrees_with_the_dry_runs_of_pods():
    for name, chip, count, parts, flops, links, fastest, slowest in tool().DRY_RUNS:
        (recipe,) = (one for one in tool().recipes() if one.name == name)
        phase = dataclasses.replace(recipe.phase, num_microbatches=parts)
        one = predict(recipe.config, phase, CHIPS[chip], count)
        if flops is not None:
            assert computed_flops(recipe.config, phase) == pytest.approx(flops, rel=0.01)
            assert one.links == pytest.approx(links, rel=0.01)
        # The range is inside that of the dry run, but for a fifth.
        assert 0.8 * fastest < one.fastest < one.slowest < 1.2 * slowest


def test_the_shapes_are_asked_for_once(monkeypatch):
    config = large_config(num_layers=3)
    predict(config, phase_of(config), V5E, 4)
    monkeypatch.setattr("roberta_jax.dryrun.scaling.abstract_params", None)
    predict(config, phase_of(config), V5E, 8)
    assert weight_bytes(config) == 4 * sum(
        leaf.size for leaf in jax.tree.leaves(abstract_params(config.encoder))
    )
