"""The steps of a run over shapes: what `pretrain` would compile, on devices that are not there."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh

from roberta_jax.config import MeshConfig, PretrainConfig
from roberta_jax.data.pairs import TOKENS_PER_LABEL
from roberta_jax.dryrun.topologies import Topology
from roberta_jax.errors import UserError
from roberta_jax.objective.masking import Masker
from roberta_jax.parallel.mesh import mesh_of, mesh_sizes
from roberta_jax.parallel.tables import batch_sharding
from roberta_jax.train.explain import ASSUMED_VOCAB_SIZE, explain
from roberta_jax.train.inputs import InputMaker
from roberta_jax.train.microbatches import with_microbatches
from roberta_jax.train.plan import Phase, Plan, make_plan
from roberta_jax.train.run_data import check_padding, open_data, resolve
from roberta_jax.train.shapes import check_shapes


@dataclasses.dataclass(frozen=True)
class Prepared:
    """All that `make_programs` takes.

    Attributes:
      config: with the vocabulary.
      plan: phases with their microbatches.
      maker: of inputs.
      mesh: over the devices of the topology.
      assumed_vocabulary: neither the config nor a dataset says how large it is.
    """

    config: PretrainConfig
    plan: Plan
    maker: InputMaker
    mesh: Mesh
    assumed_vocabulary: bool


def prepare(config: PretrainConfig, topology: Topology, memory_bytes: float) -> Prepared:
    """Does what `pretrain` does before it compiles.

    Args:
      config: the run; with `data.path`, the prepared dataset says what it does in a run.
      topology: its devices.
      memory_bytes: of a device, by which the microbatches are chosen where the config has 0.

    Raises:
      UserError: what `pretrain` would raise for such devices.
    """
    next(explain(config))  # Refuses what no run could begin with.
    assumed = False
    if all(config.paths()):
        data = open_data(config)
        config = resolve(config, data.main)
        check_padding(config, data.tokenizer())
        plan = make_plan(config, data.num_rows)
        maker = InputMaker.of(config, data.tokenizer(), data.main)
    else:
        assumed = config.encoder.vocab_size == 0
        vocab_size = config.encoder.vocab_size or ASSUMED_VOCAB_SIZE
        encoder = dataclasses.replace(config.encoder, vocab_size=vocab_size)
        config = dataclasses.replace(config, encoder=encoder)
        plan = make_plan(config, lambda path: 1)
        maker = _maker_without_data(config)
    mesh = make_topology_mesh(config.mesh, topology)
    check_shapes(config, mesh)
    # A chip that is not there cannot be asked for its memory; this machine's processor can.
    device_bytes = 0.0 if topology.chip is None else memory_bytes
    plan = with_microbatches(config, plan, mesh, device_bytes=device_bytes)
    return Prepared(config, plan, maker, mesh, assumed)


def make_topology_mesh(config: MeshConfig, topology: Topology) -> Mesh:
    """The mesh over the devices of a topology, laid out as in a run.

    Raises:
      UserError: the sizes don't multiply to the number of devices, or the compiler does not know
        the topology.
    """
    num_devices = topology.num_devices
    sizes = mesh_sizes(config, num_devices, f"the {num_devices} devices of {topology.name}")
    if topology.chip is None:
        devices = jax.devices()[:num_devices]
    else:
        chip = topology.chip
        cores = {"chip_config_name": chip.configuration} if chip.configuration else {}
        try:
            described = topologies.get_topology_desc(
                platform="tpu", topology_name=topology.name, **cores
            )
        except jax.errors.JaxRuntimeError as error:
            if "INVALID_ARGUMENT" not in str(error):
                raise
            said = " ".join(str(error).split())[:300].rstrip(".")
            raise UserError(
                f"--topology={topology.name} is none that libtpu can compile for: {said}. "
                "Choose sizes that are multiples of a host's chips, such as v5e:4x4, v5p:4x4x4 or "
                "v6e:8x8."
            ) from error
        devices = list(described.devices)
    return mesh_of(sizes, devices, granule=config.granule)


def batch_shapes(config: PretrainConfig, phase: Phase, maker: InputMaker, mesh: Mesh) -> Any:
    """A batch of a phase as `parallel.placement.place` gives it, as shapes."""
    sharding, rows = batch_sharding(mesh), phase.batch_size

    def shape(dtype: Any, *sizes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, dtype, sharding=sharding)

    batch = {
        "tokens": shape(jnp.int32, rows, phase.sequence_length),
        "index": shape(jnp.uint32, rows),
        "epoch": shape(jnp.uint32, rows),
    }
    if maker.next_sentence:
        batch["labels"] = shape(jnp.int32, rows, max(phase.sequence_length // TOKENS_PER_LABEL, 1))
    return batch


def _maker_without_data(config: PretrainConfig) -> InputMaker:
    """Inputs with RoBERTa's special ids: which they are does not change what a step costs."""
    encoder, masking = config.encoder, config.masking
    mask_id = encoder.vocab_size - 1
    masker = Masker(
        masking,
        encoder.vocab_size,
        special_ids=(0, 1, 2, 3, mask_id),
        mask_id=mask_id,
        pad_id=encoder.pad_id,
        start_id=0 if config.data.attention == "example" else None,
        word_starts=(True,) * encoder.vocab_size if masking.whole_words else (),
    )
    pairs = encoder.next_sentence_head
    return InputMaker(
        masker,
        bos_id=0,
        eos_id=2,
        next_sentence=pairs,
        token_types=pairs and encoder.num_token_types > 1,
    )
