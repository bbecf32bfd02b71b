"""The bytes that a compiled step moves: to and from memory, and between devices."""

import dataclasses
import math
import re

from roberta_jax.dryrun.hlo import Computation, Instruction, Module, called_by

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

# They move nothing, or what they run is counted by itself.
_FREE = frozenset(
    {
        *("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "while", "call"),
        *("conditional", "after-all", "partition-id", "replica-id", "iota", "async-start"),
        *("opt-barrier", "add-dependency"),
    }
)
_WINDOWS = ("dynamic-slice", "slice", "gather")  # They read what they give, not all of the operand.


@dataclasses.dataclass(slots=True)
class Collective:
    """All collectives of a kind, in one step, on one device.

    Attributes:
      count: how many run.
      payload_bytes: the whole arrays that are summed, gathered or moved.
      sent_bytes: what the device sends for them, around a ring.
    """

    count: int = 0
    payload_bytes: int = 0
    sent_bytes: int = 0


def collectives(module: Module, num_devices: int) -> dict[str, Collective]:
    """The collectives of a step by kind; those among one device are none."""
    found: dict[str, Collective] = {}
    for computation, instruction, times in module.runs(within_fusions=True):
        kind = instruction.opcode.removesuffix("-start")
        if kind not in KINDS:
            continue
        size = group_size(instruction.attributes, num_devices)
        if kind != "collective-permute" and size == 1:
            continue
        if computation.name.startswith("all-reduce-scatter"):  # How TPUs fuse a reduce-scatter.
            kind = "reduce-scatter"
        payload = _payload_bytes(computation, instruction)
        one = found.setdefault(kind, Collective())
        one.count += times
        one.payload_bytes += times * payload
        one.sent_bytes += times * _sent_bytes(kind, payload, size)
    return found


def group_size(attributes: str, num_devices: int) -> int:
    """Devices that take part together, from any of the notations of `replica_groups`."""
    if found := re.search(r"replica_groups=\{\{([\d,]*)\}", attributes):
        return len(found[1].split(","))
    if found := re.search(r"replica_groups=\[(\d+),(\d+)\]<=", attributes):
        return int(found[2])
    if found := re.search(r"replica_groups=\w*mesh\[([^\]]*)\][^{]*\{([^}]*)\}", attributes):
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", found[1]))
        parts = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", found[2])
        return math.prod(int(part or sizes[axis]) for axis, part in parts)
    return num_devices


def _payload_bytes(computation: Computation, instruction: Instruction) -> int:
    given = sum(
        array.num_bytes
        for name in instruction.operands
        for array in computation.instructions[name].arrays
    )
    result = sum(array.num_bytes for array in instruction.arrays)
    if instruction.opcode.endswith("-start") and len(instruction.arrays) > len(
        instruction.operands
    ):
        result -= given  # The result of a start repeats its operands.
    return max(given, result)


def _sent_bytes(kind: str, payload: int, size: int) -> int:
    if kind == "collective-permute":
        return payload
    share = payload * (size - 1) // size
    return 2 * share if kind == "all-reduce" else share


def memory_bytes(module: Module) -> int:
    """Bytes that the instructions of a step read from and write to the memory of a device.

    What a fusion keeps to itself is not moved, and of what it takes a window only that window. The
    small memories of a TPU (`S(1)` in a layout) are not counted, nor what caches may save.
    """
    return sum(
        times * _moved(module, computation, instruction)
        for computation, instruction, times in module.runs(within_fusions=False)
    )


def _moved(module: Module, computation: Computation, instruction: Instruction) -> int:
    opcode = instruction.opcode
    if opcode in _FREE or opcode.endswith(("-done", "-update")):
        return 0
    operands = [computation.instructions[name] for name in instruction.operands]
    if opcode in ("copy-start", "slice-start"):
        target = instruction.arrays[0 if opcode == "copy-start" else len(operands)]
        ends = (operands[0].arrays[0].in_memory, target.in_memory)
        return target.num_bytes * sum(ends)
    if opcode == "fusion":
        return _moved_by_fusion(module, module.computations[called_by(instruction)[0]], instruction)
    if opcode in _WINDOWS:
        return 2 * _in_memory(instruction)
    if opcode == "dynamic-update-slice":
        return 2 * _in_memory(operands[1])
    return _in_memory(instruction) + sum(map(_in_memory, operands))


def _in_memory(instruction: Instruction) -> int:
    return sum(array.num_bytes for array in instruction.arrays if array.in_memory)


def _moved_by_fusion(module: Module, fused: Computation, fusion: Instruction) -> int:
    total = sum(
        _read(module, fused, parameter, parameter)
        for parameter in fused.instructions.values()
        if parameter.opcode == "parameter"
    )
    root = fused.root
    results = [fused.instructions[name] for name in root.operands]
    if root.opcode != "tuple":
        results = [root]
    for result, array in zip(results, fusion.arrays, strict=False):
        while result.opcode == "bitcast":
            result = fused.instructions[result.operands[0]]
        if not array.in_memory:
            continue
        if result.opcode == "dynamic-update-slice":
            update = fused.instructions[result.operands[1]]
            total += sum(each.num_bytes for each in update.arrays)
        else:
            total += array.num_bytes
    return total


def _read(module: Module, fused: Computation, parameter: Instruction, source: Instruction) -> int:
    """What a fusion reads of a parameter, or of `source`, another view of it."""
    whole, parts = _in_memory_or(parameter, source), 0
    for user in fused.instructions.values():
        for number, name in enumerate(user.operands):
            if name != source.name:
                continue
            if user.opcode == "bitcast":
                parts += _read(module, fused, parameter, user)
            elif user.opcode == "fusion":  # One inside the other: often it takes a window.
                inner = module.computations[called_by(user)[0]]
                passed = next(
                    each
                    for each in inner.instructions.values()
                    if each.opcode == "parameter" and each.inside.strip() == str(number)
                )
                parts += _read(module, inner, passed, passed) if whole else 0
            elif user.opcode in _WINDOWS and number == 0:
                parts += sum(array.num_bytes for array in user.arrays) if whole else 0
            elif user.opcode == "dynamic-update-slice" and number == 0:
                continue  # Written in place.
            else:
                return whole
    return min(whole, parts)


def _in_memory_or(parameter: Instruction, view: Instruction) -> int:
    """Bytes of a view of a parameter that lies in memory; 0 where the parameter does not."""
    if not all(array.in_memory for array in parameter.arrays):
        return 0
    return sum(array.num_bytes for array in view.arrays)
