"""The compiler of TPUs itself, without a TPU: `make test-tpu`."""

import pathlib
import runpy

import pytest

from roberta_jax.cli.main import main
from roberta_jax.dryrun.chips import CHIPS
from roberta_jax.dryrun.topologies import parse_topology
from roberta_jax.dryrun.worker import compile_for
from roberta_jax.errors import UserError
from tests.dryrun.cases import tiny_config

pytestmark = pytest.mark.tpu

POD = pathlib.Path(__file__).parents[2] / "configs" / "pretrain" / "pods" / "base_v5e_16.py"
# A host's chips, along each axis.
SMALLEST = {2: "2x2", 3: "2x2x1"}


def test_base_fits_sixteen_small_chips():
    topology = parse_topology("v5e:4x4")
    result = compile_for(runpy.run_path(str(POD))["get_config"](), topology, topology.memory_bytes)
    (phase,) = result.phases
    assert result.fits(topology.memory_bytes)
    assert result.num_params == 124_696_665
    # All weights, and a sixteenth of two moments, in float32.
    assert phase.state.parameters == pytest.approx(4 * result.num_params, rel=0.01)
    assert phase.state.optimizer == pytest.approx(8 * result.num_params / 16, rel=0.01)
    # Three times the forward pass, and the layers once more.
    assert 1.2 < phase.computed_flops / phase.model_flops < 4 / 3
    # The gradient is summed once a step, not once a microbatch.
    sums = phase.compiled.collectives["all-reduce"].payload_bytes
    assert sums == pytest.approx(4 * result.num_params, rel=0.05)


def test_too_large_a_step_is_a_result(capsys):
    """26.4 GiB of temporaries and half a GiB of state, for chips of 15.75."""
    flags = [f"--config={POD}", "--config.train.num_microbatches=1", "--topology=v5e:4x4"]
    assert main(["dryrun", *flags]) == 1
    said = capsys.readouterr()
    last = said.out.splitlines()[-1]
    assert last.startswith("It does not fit: a device of v5e:4x4 would need 2")
    assert "GiB are missing" in last
    assert "--config.train.num_microbatches=2 instead of 1" in last
    assert "Traceback" not in said.out + said.err


@pytest.mark.parametrize("kind", CHIPS)
def test_every_kind_of_chip_compiles_a_small_step(kind):
    topology = parse_topology(f"{kind}:{SMALLEST[CHIPS[kind].num_axes]}")
    result = compile_for(tiny_config(), topology, topology.memory_bytes)
    assert result.mesh == {"data": 4, "fsdp": 1, "context": 1, "tensor": 1}
    assert result.fits(topology.memory_bytes)
    assert result.phases[0].compiled.sent_bytes > 0


def test_a_shape_that_no_pod_has_is_refused():
    with pytest.raises(UserError, match="v5e:3x5 is none that libtpu can compile for") as caught:
        compile_for(tiny_config(), parse_topology("v5e:3x5"), 2**40)
    assert "\n" not in str(caught.value)
