"""A result, or a search, as one HTML page: bars of the memory and of the time, and tables."""

import math
from collections.abc import Iterator, Sequence
from html import escape

from roberta_jax.dryrun.costs import SLOW_PEAK_SHARE, run_seconds, step_time
from roberta_jax.dryrun.memory import memory_parts
from roberta_jax.dryrun.result import PhaseResult, Result
from roberta_jax.dryrun.search import Found
from roberta_jax.dryrun.topologies import Topology
from roberta_jax.dryrun.verdict import (
    advice,
    bytes_text,
    days,
    gib,
    peak_name,
    recipe_rows,
    run_rows,
    step_row,
    time_rows,
    work_rows,
)
from roberta_jax.page.document import document, table
from roberta_jax.page.stylesheet import COLOURS

_WIDTH, _HEIGHT = 1000, 34  # Of a bar, in its own units.


def result_page(result: Result, topology: Topology, memory_bytes: float, name: str) -> str:
    """The page of one dry run.

    Args:
      result: what was found.
      topology: its devices.
      memory_bytes: of one of them; infinity is no limit.
      name: of the recipe.
    """
    fits = result.fits(memory_bytes)
    verdict = "It fits." if fits else advice(result, topology, memory_bytes)
    title = f"{name} on {topology.name}: {'fits' if fits else 'does not fit'}"
    body = [f'<p class="sub">{escape(verdict)}</p>', *_result(result, topology, memory_bytes)]
    return document(title, "\n".join(body))


def search_page(found: Sequence[Found], topology: Topology, memory_bytes: float, name: str) -> str:
    """The page of a search: what fits, in the order given, and the first of it in full."""
    if not found:
        body = ["<p>Nothing that was tried fits. Take more devices, or larger ones.</p>"]
    else:
        body = [
            "<h2>What fits, best first</h2>",
            table(list(_search_rows(found, topology)), head=_SEARCH_HEAD),
            "<h2>The first of them</h2>",
            *_result(found[0].result, topology, memory_bytes),
        ]
    return document(f"{name} on {topology.name}: search", "\n".join(body))


_SEARCH_HEAD = ("", "mesh", "rematerialization", "microbatches", "peak, GiB", "run", "flags")


def _search_rows(found: Sequence[Found], topology: Topology) -> Iterator[tuple[str, ...]]:
    for place, each in enumerate(found, 1):
        result = each.result
        time = "not told"
        if topology.chip is not None:
            seconds = run_seconds(result, topology.num_devices, topology.chip)
            assert seconds is not None, "only what fits is listed"
            time = f"{days(seconds[0])} to {days(seconds[1])}"
        yield (
            str(place),
            " x ".join(f"{axis} {size}" for axis, size in result.mesh.items()),
            result.rematerialization,
            ", ".join(str(phase.num_microbatches) for phase in result.phases),
            gib(max(phase.peak_bytes() for phase in result.phases)),
            time,
            each.flags,
        )


def _result(result: Result, topology: Topology, memory_bytes: float) -> Iterator[str]:
    rows = [*run_rows(result, topology, memory_bytes), *recipe_rows(result, topology)]
    several = len(result.phases) > 1
    if several:
        yield table(rows)
    for number, phase in enumerate(result.phases):
        step = [step_row(phase), *work_rows(phase, topology), *time_rows(phase, topology)]
        yield f"<h2>Phase {number + 1}</h2>{table(step)}" if several else table(rows + step)
        yield from _memory(phase, topology, memory_bytes)
        yield from _time(phase, topology)
        yield from _collectives(phase)


def _memory(phase: PhaseResult, topology: Topology, memory_bytes: float) -> Iterator[str]:
    parts, peak = memory_parts(phase), phase.peak_bytes()
    of = "" if memory_bytes == math.inf else f" of {gib(memory_bytes)}"
    yield f"<h2>Memory of a device: {gib(peak)}{of} GiB {peak_name(phase)}</h2>"
    limit = 0.0 if memory_bytes == math.inf else memory_bytes
    line = f"The line is what a device has, {gib(limit)} GiB." if 0 < limit < peak else ""
    yield f"<figure>{_bar(parts, max(peak, limit), limit)}<figcaption>{line}</figcaption></figure>"
    whole = limit or peak
    yield _legend(
        [(name, (gib(count), f"{count / whole:.1%}")) for name, count in parts],
        ("GiB", "of a device" if limit else "of the peak"),
    )


def _time(phase: PhaseResult, topology: Topology) -> Iterator[str]:
    time = topology.chip and step_time(phase, topology.num_devices, topology.chip)
    if not time:
        return
    names = ("products", "memory", "links")
    fast = (time.matmul, time.memory, time.links)
    slow = (time.slow_matmul, time.memory, time.slow_links)
    longest = [value if value == time.fastest else 0.0 for value in fast]
    yield f"<h2>Time of a step: {time.fastest:.3g} to {time.slowest:.3g} s, predicted</h2>"
    for label, values in (("fastest", longest), ("slowest", slow)):
        bar = _bar(list(zip(names, values, strict=True)), time.slowest, 0.0)
        yield f"<figure><figcaption>{label}</figcaption>{bar}</figure>"
    yield _legend(
        [
            (name, (f"{one:.3g}", f"{two:.3g}"))
            for name, one, two in zip(names, fast, slow, strict=True)
        ],
        ("s at published rates", f"s with products at {SLOW_PEAK_SHARE:.0%}, one link at a time"),
    )


def _collectives(phase: PhaseResult) -> Iterator[str]:
    if phase.compiled is None:
        return
    yield "<h2>Collectives of a step</h2>"
    rows = [
        (kind, f"{each.count:,}", bytes_text(each.payload_bytes), bytes_text(each.sent_bytes))
        for kind, each in sorted(phase.compiled.collectives.items())
    ]
    if rows:
        yield table(rows, head=("", "number", "arrays in all", "sent by a device"))
    else:
        yield "<p>None.</p>"


def _bar(parts: Sequence[tuple[str, float]], whole: float, limit: float) -> str:
    """Parts in a row, on a scale from 0 to `whole`, and a line at `limit` where it is not 0."""
    shapes, place = [], 0.0
    scale = _WIDTH / max(whole, 1e-300)
    for (name, value), colour in zip(parts, COLOURS, strict=False):
        shapes.append(
            f'<rect x="{place * scale:.2f}" width="{value * scale:.2f}" height="{_HEIGHT}" '
            f'fill="{colour}"><title>{escape(name)}</title></rect>'
        )
        place += value
    shapes.append(
        f'<rect x=".5" y=".5" width="{_WIDTH - 1}" height="{_HEIGHT - 1}" fill="none" '
        'stroke="currentColor" stroke-opacity=".3"/>'
    )
    if 0 < limit < whole:
        shapes.append(
            f'<line x1="{limit * scale:.2f}" x2="{limit * scale:.2f}" y2="{_HEIGHT}" '
            'stroke="currentColor" stroke-width="4"><title>memory of a device</title></line>'
        )
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(shapes)}</svg>'


def _legend(rows: Sequence[tuple[str, Sequence[str]]], head: Sequence[str]) -> str:
    """A table whose names have the colours of a bar."""
    names = "".join(f"<th>{escape(name)}</th>" for name in ("", *head))
    body = "\n".join(
        f'<tr><th><span class="swatch" style="background:{colour}"></span>{escape(name)}</th>'
        + "".join(f"<td>{escape(value)}</td>" for value in values)
        + "</tr>"
        for (name, values), colour in zip(rows, COLOURS, strict=False)
    )
    return f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"
