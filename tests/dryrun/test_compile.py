"""The real step, compiled for fake devices, against counts by hand."""

import dataclasses
import math

import jax
import pytest

from roberta_jax.config import PhaseConfig, field_paths
from roberta_jax.dryrun.compile import dry_run
from roberta_jax.dryrun.program import batch_shapes, prepare
from roberta_jax.dryrun.topologies import parse_topology
from roberta_jax.encoder.model import abstract_params
from roberta_jax.errors import UserError
from roberta_jax.parallel.tables import abstract, path_name
from roberta_jax.train.programs import make_programs
from tests.dryrun.cases import tiny_config


def found(count=8, **settings):
    config = tiny_config(**settings)
    result = dry_run(config, parse_topology(f"cpu:{count}"), math.inf)
    return config, result, result.phases[0]


@pytest.fixture(scope="module")
def over_data():
    return found()


@pytest.fixture(scope="module")
def divided():
    return found(num_microbatches=2, policy="full")


def sums_of(phase):
    """Bytes of the arrays that are summed over the devices."""
    collectives = phase.compiled.collectives
    return sum(collectives[kind].payload_bytes for kind in collectives if "reduce" in kind)


def sizes(config):
    shapes = abstract_params(config.encoder)
    return {
        path_name(path): leaf.size for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
    }


def test_over_data_every_device_has_all_weights_and_an_eighth_of_the_moments(over_data):
    config, result, phase = over_data
    count = sum(sizes(config).values())
    assert phase.state.parameters == phase.state.gradient == 4 * count
    assert phase.state.average == 0
    # Of two moments, every array has an axis that 8 divides, but for the last bias.
    split = 2 * 4 * sum(size // 8 if size % 8 == 0 else size for size in sizes(config).values())
    assert split <= phase.state.optimizer <= split + 16  # And a counter.
    assert phase.state.batch == 2 * (16 * 4 + 4 + 4)  # Two rows of tokens, number, epoch.
    assert result.mesh == {"data": 8, "fsdp": 1, "context": 1, "tensor": 1}


def test_the_peak_holds_the_state_and_the_gradient(over_data):
    _, _, phase = over_data
    assert phase.compiled.peak_bytes >= phase.state.kept + phase.state.gradient
    assert phase.compiled.temporary_bytes >= phase.state.gradient
    assert phase.fits(math.inf) and not phase.fits(phase.compiled.peak_bytes - 1)


def test_the_sums_and_what_is_sent_back_are_among_the_collectives(over_data):
    config, _, phase = over_data
    gradient = 4 * sum(sizes(config).values())
    # The compiler sums the two gradients of the embedding, of its two uses, one by one.
    assert gradient <= sums_of(phase) < 2 * gradient
    # The new weights come from the device that has updated them.
    assert phase.compiled.collectives["all-gather"].payload_bytes >= 0.9 * gradient
    assert phase.compiled.sent_bytes > gradient


def test_with_microbatches_the_gradient_is_summed_once_a_step(divided):
    config, _, phase = divided
    gradient = 4 * sum(sizes(config).values())
    assert phase.num_microbatches == 2
    assert gradient <= sums_of(phase) < 1.1 * gradient


def test_over_fsdp_the_weights_are_split(over_data):
    config, _, phase = found(mesh={"data": 2, "fsdp": 4})
    _, _, whole = over_data
    split = 4 * sum(
        size // 4 if name.endswith(("kernel", "embedding")) else size
        for name, size in sizes(config).items()
    )
    assert phase.state.parameters == split
    assert phase.state.batch == whole.state.batch


def test_one_device_has_all_and_sends_nothing():
    config, result, phase = found(count=1)
    count = sum(sizes(config).values())
    assert phase.compiled.collectives == {} and phase.compiled.sent_bytes == 0
    assert 2 * 4 * count <= phase.state.optimizer <= 2 * 4 * count + 16
    assert result.num_params < count, "the padding of the vocabulary is memory only"


def test_computed_flops_are_those_of_the_model_and_what_is_computed_again(over_data, divided):
    _, _, phase = over_data
    _, _, again = divided
    assert phase.model_flops <= phase.computed_flops < 1.3 * phase.model_flops
    assert phase.computed_flops < again.computed_flops < 4 / 3 * phase.computed_flops
    assert again.model_flops == phase.model_flops


def test_a_state_that_is_too_large_is_not_compiled(over_data):
    _, _, whole = over_data
    limit = whole.state.kept - 1
    phase = dry_run(tiny_config(), parse_topology("cpu:8"), limit).phases[0]
    assert phase.state_is_too_large and phase.compiled is None
    assert phase.peak_bytes() == whole.state.kept and not phase.fits(limit)
    assert (phase.state, phase.computed_flops) == (whole.state, whole.computed_flops)


def test_every_phase_names_the_field_of_its_microbatches(over_data):
    _, _, phase = over_data
    assert phase.microbatches_field == "train.num_microbatches"
    phases = (PhaseConfig(duration="90%", batch_size=32), PhaseConfig(duration="10%"))
    config = dataclasses.replace(tiny_config(), phases=phases)
    result = dry_run(config, parse_topology("cpu:8"), 0.0)  # Nothing is compiled.
    fields = [each.microbatches_field for each in result.phases]
    assert fields == ["phases[0].num_microbatches", "phases[1].num_microbatches"]
    assert all(field in field_paths(config) for field in fields)


def test_the_program_is_as_large_for_twice_as_many_layers():
    """The layers are one loop, forward and backward: of 12 or 24, only numbers change."""
    twelve, more = (lowered_lines(num_layers) for num_layers in (12, 24))
    assert len(twelve) == pytest.approx(len(more), rel=0.01)
    assert any("24x" in line for line in more), "the layers are there"


def lowered_lines(num_layers):
    config = tiny_config(num_layers=num_layers, policy="full")
    prepared = prepare(config, parse_topology("cpu:8"), math.inf)
    mesh = prepared.mesh
    with jax.set_mesh(mesh):
        programs = make_programs(prepared.config, prepared.plan, prepared.maker, mesh)
        batch = batch_shapes(prepared.config, prepared.plan.phases[0], prepared.maker, mesh)
        lowered = programs.steps[0].lower(abstract(programs.shapes, mesh), batch)
    return lowered.as_text().splitlines()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mesh": {"data": 3}}, r"data=3 x fsdp=1 x tensor=1 does not fill the 8 devices of cpu:8"),
        ({"mesh": {"fsdp": 3}}, "does not fill the 8 devices"),
        ({"batch_size": 12}, "batch of 12 rows cannot be split over 8 devices"),
        ({"batch_size": 8, "num_microbatches": 4}, "in 4 microbatches cannot be split"),
        ({"mesh": {"fsdp": 8}, "hidden_size": 36, "mlp_size": 36}, "cannot split the weights"),
    ],
)
def test_what_no_run_could_begin_with_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        found(**settings)
