"""Reads a compiled program (HLO text): computations, instructions, shapes, trips of loops.

XLA's own `cost_analysis()` counts the body of a loop once. Here the layers are a loop, and so are
the microbatches, so what an instruction costs is counted as often as it runs.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

_BITS = {"pred": 8, "c64": 64, "c128": 128, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"(\w+)\[([\d,<=]*)\](?:\{([^}]*)\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_CALLED = re.compile(
    r"(?:calls|body|true_computation|false_computation|branch_computations|to_apply)="
    r"(\{[^}]*\}|%[\w.\-]+)"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclasses.dataclass(frozen=True, slots=True)
class Array:
    """One array of a shape: its bytes, and whether it lies in the device's main memory."""

    num_bytes: int
    in_memory: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Instruction:
    """`name = shape opcode(operands), attributes`."""

    name: str
    opcode: str
    arrays: tuple[Array, ...]  # Of its result; nested tuples are flattened.
    operands: tuple[str, ...]
    inside: str  # The text between the parentheses.
    attributes: str
    is_root: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Computation:
    """Instructions by name, in order."""

    name: str
    instructions: dict[str, Instruction]

    @property
    def root(self) -> Instruction:
        """The one that gives the result."""
        return next(each for each in self.instructions.values() if each.is_root)


@dataclasses.dataclass(frozen=True, slots=True)
class Module:
    """Computations by name; `entry` is where it begins."""

    computations: dict[str, Computation]
    entry: str

    def runs(self, *, within_fusions: bool) -> Iterator[tuple[Computation, Instruction, int]]:
        """Every instruction that runs, with its computation and how often that is.

        Args:
          within_fusions: also what a fusion is made of, and not only the fusion itself.
        """
        yield from self._runs(self.entry, 1, within_fusions)

    def _runs(
        self, name: str, times: int, within: bool
    ) -> Iterator[tuple[Computation, Instruction, int]]:
        computation = self.computations[name]
        for instruction in computation.instructions.values():
            yield computation, instruction, times
            opcode = instruction.opcode
            # `to_apply` of a sum is a formula, only that of a call is a part of the program.
            if opcode == "fusion" and not within:
                continue
            if opcode not in ("fusion", "while", "call", "conditional", "async-start"):
                continue
            trips = self.trips(instruction) if opcode == "while" else 1
            for called in _called(instruction):
                yield from self._runs(called, times * trips, within)

    def trips(self, loop: Instruction) -> int:
        """How often the body of a `while` runs; 1 where the program doesn't tell."""
        if found := _TRIPS.search(loop.attributes):
            return int(found[1])
        condition = re.search(r"condition=%([\w.\-]+)", loop.attributes)
        if condition is None:
            return 1
        return self._bound(self.computations[condition[1]])

    def _bound(self, condition: Computation) -> int:
        """The constant that `counter < constant` has; the counters of `lax.scan` begin at 0."""
        root = condition.root
        if root.opcode == "fusion":  # A comparison that XLA wrapped.
            inner = self.computations[_called(root)[0]]
            if "direction=LT" not in inner.root.attributes:
                return 1
        elif root.opcode != "compare" or "direction=LT" not in root.attributes:
            return 1
        for name in root.operands:
            operand = condition.instructions[name]
            if operand.opcode == "constant" and operand.inside.isdigit():
                return int(operand.inside)
        return 1


def parse(text: str) -> Module:
    """The module of `compiled.as_text()`."""
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = Computation(head[2], {})
            computations[current.name] = current
            if head[1]:
                entry = current.name
        elif current is not None and " = " in line:
            instruction = _instruction(line)
            current.instructions[instruction.name] = instruction
    assert entry, "a compiled program has an entry"
    return Module(computations, entry)


def called_by(instruction: Instruction) -> list[str]:
    """Names of the computations that an instruction runs."""
    return _called(instruction)


def _called(instruction: Instruction) -> list[str]:
    return [
        name for text in _CALLED.findall(instruction.attributes) for name in _NAME.findall(text)
    ]


def _instruction(line: str) -> Instruction:
    left, _, right = line.strip().partition(" = ")
    is_root = left.startswith("ROOT ")
    end = _closing(right, 0) if right.startswith("(") else right.index(" ")
    shape, rest = right[:end], right[end:].lstrip()
    opening = rest.index("(")
    closing = _closing(rest, opening)
    inside = rest[opening + 1 : closing - 1]
    return Instruction(
        name=left.removeprefix("ROOT ").lstrip("%"),
        opcode=rest[:opening],
        arrays=tuple(_arrays(shape)),
        operands=tuple(_NAME.findall(inside)),
        inside=inside,
        attributes=rest[closing:],
        is_root=is_root,
    )


def _closing(text: str, start: int) -> int:
    """The place after the parenthesis that closes the one at `start`."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    raise ValueError(f"an open parenthesis in {text[:80]!r}")


def _arrays(shape: str) -> Iterator[Array]:
    for kind, sizes, layout in _ARRAY.findall(shape):
        bits = _BITS.get(kind)
        if bits is None:
            digits = re.search(r"\d+", kind)
            bits = int(digits[0]) if digits else 0
        count = math.prod(int(size.lstrip("<=")) for size in sizes.split(",") if size)
        # S(1) and on are the small memories beside the arithmetic.
        yield Array(count * bits // 8, re.search(r"S\([1-9]", layout) is None)
