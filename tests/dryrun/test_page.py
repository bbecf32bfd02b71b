"""What a browser shows."""

import math
import re

import pytest

from roberta_jax.dryrun.page import result_page, search_page
from roberta_jax.dryrun.search import Found
from roberta_jax.dryrun.topologies import parse_topology
from tests.dryrun.cases import phase_result, result

V5E = parse_topology("v5e:4x4")
LIMIT = V5E.memory_bytes


def bars(page):
    """The widths of the coloured parts of every bar, in thousandths."""
    return [
        [float(width) for width in re.findall(r'<rect x="[^"]*" width="([^"]*)"[^>]*><title', svg)]
        for svg in re.findall(r"<svg.*?</svg>", page)
    ]


def test_the_page_needs_nothing_from_elsewhere():
    page = result_page(result(phase_result(peak=6)), V5E, LIMIT, "<base>")
    assert "&lt;base&gt; on v5e:4x4: fits" in page and "<base>" not in page
    assert not re.search(r"<script|<link|<img|src=|href=|url\(|http(?!-equiv)", page)


def test_what_fits_fills_a_part_of_the_memory_and_of_the_time():
    page = result_page(result(phase_result(peak=6)), V5E, LIMIT, "base")
    memory, fastest, slowest = bars(page)
    gib = 1000 / 15.75
    assert memory == pytest.approx([gib, gib, gib, 3 * gib, 0], abs=0.01)
    assert sum(memory) == pytest.approx(1000 * 6 / 15.75, abs=0.05)
    places = re.findall(r'<rect x="([^"]*)" width="[^"]*"[^>]*><title', page)[: len(memory)]
    assert list(map(float, places)) == pytest.approx(
        [sum(memory[:number]) for number in range(len(memory))], abs=0.05
    ), "each begins where the one before it ends"
    # 2 s of products at the published rate; at half of it, with 1 s of memory and 40 ms of a link.
    assert fastest == pytest.approx([1000 * 2 / 5.04, 0, 0], abs=0.01)
    assert slowest == pytest.approx([1000 * 4 / 5.04, 1000 / 5.04, 40 / 5.04], abs=0.01)
    for text in ("6.00 of 15.75 GiB peak", "19.0%", "all-reduce</th><td>7</td><td>1 GB</td>"):
        assert text in page
    assert "<line" not in page and "The line is" not in page


def test_what_does_not_fit_goes_past_the_line():
    page = result_page(result(phase_result(needed=20)), V5E, LIMIT, "base")
    (memory,) = bars(page)
    assert sum(memory) == pytest.approx(1000, abs=0.05)
    assert f'<line x1="{1000 * 15.75 / 20:.2f}"' in page
    assert "does not fit" in page and "4.25 GiB are missing" in page
    assert "The line is what a device has, 15.75 GiB." in page
    assert "Collectives" not in page and "Time of a step" not in page


def test_without_a_limit_the_bar_is_the_peak():
    page = result_page(result(phase_result(peak=6)), parse_topology("cpu:16"), math.inf, "base")
    (memory,) = bars(page)
    assert sum(memory) == pytest.approx(1000, abs=0.05)
    assert "of the peak" in page and "no published peak" in page


def test_every_phase_has_its_bars():
    two = result(phase_result(peak=6), phase_result(peak=7))
    page = result_page(two, V5E, LIMIT, "base")
    assert len(bars(page)) == 6 and "<h2>Phase 2</h2>" in page


def test_a_search_is_a_table_and_the_first_of_it():
    found = [
        Found("--config.mesh.data=16", result(phase_result(peak=6), policy="none")),
        Found("--config.mesh.data=8", result(phase_result(peak=7), mesh=(8, 2, 1))),
    ]
    page = search_page(found, V5E, LIMIT, "base")
    rows = re.findall(r"<tr><th>(\d)</th>(.*?)</tr>", page)
    assert [place for place, _ in rows] == ["1", "2"]
    assert "data 16 x fsdp 1 x tensor 1</td><td>none</td><td>1</td><td>6.00</td>" in rows[0][1]
    assert "2.0 days to 5.0 days" in rows[0][1] and "--config.mesh.data=8" in rows[1][1]
    assert len(bars(page)) == 3 and "6.00 of 15.75 GiB peak" in page


def test_a_search_that_found_nothing_says_so():
    page = search_page([], V5E, LIMIT, "base")
    assert "Nothing that was tried fits" in page and bars(page) == []
