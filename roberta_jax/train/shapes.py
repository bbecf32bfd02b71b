"""Whether a mesh can split a run: weights, heads and rows, before anything is compiled."""

import math
from collections.abc import Iterator

from jax.sharding import Mesh

from roberta_jax.config import PretrainConfig
from roberta_jax.errors import UserError
from roberta_jax.parallel.mesh import mesh_text

# What an axis splits, as a message has it.
_SPLIT = {"fsdp": "the weights", "tensor": "the weights", "context": "the rows"}


def check_shapes(config: PretrainConfig, mesh: Mesh) -> None:
    """Refuses a mesh over which the weights or the rows cannot be split evenly.

    Args:
      config: the run, with the vocabulary and the length of the rows.
      mesh: with the axes of `parallel.mesh`.

    Raises:
      UserError: an axis does not divide what it splits, or splits a head of attention, or the
        implementation of attention needs whole rows. It names the sizes that are possible.
    """
    for axis, what in _SPLIT.items():
        size, lengths = mesh.shape[axis], dict(_lengths(config, axis))
        for name, length in lengths.items():
            if length % size:
                common = math.gcd(*lengths.values())
                possible = [str(each) for each in range(1, common + 1) if common % each == 0]
                raise UserError(
                    f"The mesh {mesh_text(mesh.shape)} cannot split {what} evenly: "
                    f"mesh.{axis}={size} does not divide {name}={length}. With this config, "
                    f"mesh.{axis} can be {', '.join(possible)}."
                )
    if mesh.shape["context"] > 1 and config.encoder.attention_implementation == "cudnn":
        raise UserError(
            "encoder.attention_implementation is cudnn, whose kernel needs whole rows, and "
            f"mesh.context={mesh.shape['context']} splits them. Use auto, or mesh.context=1."
        )


def _lengths(config: PretrainConfig, axis: str) -> Iterator[tuple[str, int]]:
    """What an axis of the mesh must divide, by the name of the setting."""
    encoder = config.encoder
    if axis == "fsdp":
        yield "encoder.hidden_size", encoder.hidden_size
    elif axis == "tensor":
        yield "encoder.num_heads", encoder.num_heads  # A head is on one device.
        yield "encoder.mlp_size", encoder.mlp_size
        multiple = f"encoder.vocab_padding_multiple={encoder.vocab_padding_multiple}"
        yield f"the vocabulary in multiples of {multiple}, size", encoder.padded_vocab_size()
    else:
        yield "data.sequence_length", config.data.sequence_length
        for number, phase in enumerate(config.phases):
            if phase.sequence_length:
                yield f"phases[{number}].sequence_length", phase.sequence_length
