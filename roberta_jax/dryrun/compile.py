"""A program of its own: compiles the steps of a run for a topology, and writes what it found.

    python -m roberta_jax.dryrun.compile RESULT.json < REQUEST.json

`worker` starts it with the environment of the topology: libtpu must not be loaded into a process
that trains, and the number of fake CPU devices is fixed when jax is first imported. It ends when
its standard input does, so that nobody compiles for a command that was interrupted.
"""

import dataclasses
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from roberta_jax.config import PretrainConfig, from_dict
from roberta_jax.dryrun.flops import matmul_flops
from roberta_jax.dryrun.hlo import parse
from roberta_jax.dryrun.memory_error import needed_bytes
from roberta_jax.dryrun.program import Prepared, batch_shapes, prepare
from roberta_jax.dryrun.result import Compiled, PhaseResult, Result, State
from roberta_jax.dryrun.topologies import Topology, parse_topology
from roberta_jax.dryrun.traffic import collectives, memory_bytes
from roberta_jax.encoder.model import count_params
from roberta_jax.errors import UserError
from roberta_jax.parallel.tables import abstract
from roberta_jax.train.hardware import step_flops
from roberta_jax.train.plan import Phase
from roberta_jax.train.programs import Step, make_programs
from roberta_jax.train.state import TrainState


def dry_run(config: PretrainConfig, topology: Topology, memory: float) -> Result:
    """Compiles the step of every phase.

    Args:
      config: the run.
      topology: its devices; the environment must be theirs already.
      memory: bytes of a device.

    Raises:
      UserError: the run could not begin on such devices.
    """
    prepared = prepare(config, topology, memory)
    with jax.set_mesh(prepared.mesh):
        programs = make_programs(prepared.config, prepared.plan, prepared.maker, prepared.mesh)
        state = abstract(programs.shapes, prepared.mesh)
        phases = [
            _phase_result(prepared, phase, step, state, memory)
            for phase, step in zip(prepared.plan.phases, programs.steps, strict=True)
        ]
    return Result(
        mesh=dict(prepared.mesh.shape),
        num_params=count_params(prepared.config.encoder),
        rematerialization=prepared.config.encoder.rematerialization,
        assumed_vocabulary=prepared.assumed_vocabulary,
        phases=phases,
    )


def _phase_result(
    prepared: Prepared, phase: Phase, step: Step, state: TrainState, memory: float
) -> PhaseResult:
    config, mesh = prepared.config, prepared.mesh
    batch = batch_shapes(config, phase, prepared.maker, mesh)
    started = time.monotonic()
    # `Step` says what a caller needs; it is a jitted function.
    traced = step.trace(state, batch)  # type: ignore[attr-defined]
    kept = State(
        parameters=bytes_per_device(state.params),
        optimizer=bytes_per_device(state.optimizer),
        average=bytes_per_device(state.average),
        gradient=bytes_per_device(state.params),
        batch=bytes_per_device(batch),
    )
    compiled, needed = None, 0
    hopeless = kept.kept > memory  # Known without minutes of compiling.
    if hopeless:
        needed = kept.kept
    else:
        try:
            compiled = _compiled(traced.lower().compile(), mesh)
        except jax.errors.JaxRuntimeError as error:
            found = needed_bytes(str(error), argument_bytes=kept.kept)
            if found is None:
                raise
            needed = found
    owner = f"phases[{phase.number}]" if config.phases else "train"
    return PhaseResult(
        num_steps=phase.num_steps,
        batch_size=phase.batch_size,
        sequence_length=phase.sequence_length,
        num_microbatches=phase.num_microbatches,
        microbatches_field=f"{owner}.num_microbatches",
        model_flops=step_flops(config, phase),
        computed_flops=matmul_flops(traced.jaxpr),
        state=kept,
        compiled=compiled,
        needed_bytes=needed,
        state_is_too_large=hopeless,
        seconds=time.monotonic() - started,
    )


def _compiled(program: Any, mesh: Mesh) -> Compiled:
    memory = program.memory_analysis()
    module = parse(program.as_text())
    return Compiled(
        peak_bytes=(
            memory.argument_size_in_bytes
            + memory.temp_size_in_bytes
            + memory.output_size_in_bytes
            - memory.alias_size_in_bytes  # The new state takes the place of the old one.
            + memory.generated_code_size_in_bytes
        ),
        temporary_bytes=memory.temp_size_in_bytes,
        memory_traffic_bytes=memory_bytes(module),
        collectives=collectives(module, mesh.size),
    )


def bytes_per_device(tree: Any) -> int:
    """Bytes of the part that a device has of a tree of shapes with shardings."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        part = jax.ShapeDtypeStruct(leaf.sharding.shard_shape(leaf.shape), leaf.dtype)
        total += part.size * part.dtype.itemsize
    return total


def main(result_path: str) -> None:
    """Reads a request from the first line of standard input, and writes its result."""
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        result = dry_run(
            from_dict(PretrainConfig, request["config"]),
            parse_topology(request["topology"]),
            request["memory_bytes"],
        )
        answer: dict[str, Any] = {"result": dataclasses.asdict(result)}
    except UserError as error:
        answer = {"error": str(error)}
    Path(result_path).write_text(json.dumps(answer))


def _end_with_input() -> None:
    # Not through `sys.stdin`, whose lock would be held when the interpreter ends.
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
