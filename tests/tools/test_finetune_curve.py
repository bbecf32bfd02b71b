"""The curve of fine-tuning runs: everything is read before anything is written."""

import pathlib
import sys

import pytest
from matplotlib.figure import Figure

from roberta_jax.tasks.results import write_results
from tests.tasks.runs import make_result
from tests.tools.loading import load_tool

BEGIN, END = "<!-- curve: begin -->", "<!-- curve: end -->"


@pytest.fixture(scope="module")
def tool():
    return load_tool("finetune_curve")


@pytest.fixture
def called(tool, tmp_path, monkeypatch, capsys):
    """`called()` → what was said on standard error; "" where it went through."""

    def call():
        arguments = ["--runs=runs", "--output=curve.png", "--page=page.md"]
        monkeypatch.setattr(sys, "argv", ["finetune_curve.py", *arguments])
        try:
            tool.main()
        except SystemExit as error:
            assert error.code == 2
        return " ".join(capsys.readouterr().err.split())

    monkeypatch.chdir(tmp_path)
    write_results("runs/a", [make_result("sst2", [0.9, 0.8, 0.85], init_from="base")])
    write_results("runs/b", [make_result("sst2", [0.7, 0.6, 0.65])])
    pathlib.Path("page.md").write_text(f"Above.\n{BEGIN}\nold\n{END}\nBelow.\n")
    return call


def test_the_table_takes_its_place_between_the_marks(called):
    assert called() == ""
    page = pathlib.Path("page.md").read_text()
    assert page.startswith(f"Above.\n{BEGIN}\n| task |") and page.endswith(f"|\n{END}\nBelow.\n")
    row = "| SST-2, accuracy | 160 | 85.0 (80.0 to 90.0) | 65.0 (60.0 to 70.0) | +20.0 | 3 |"
    assert row in page and "old" not in page
    assert pathlib.Path("curve.png").stat().st_size > 1000
    assert called() == "" and pathlib.Path("page.md").read_text() == page


@pytest.mark.parametrize(
    "page", ["", f"{BEGIN}\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n"]
)
def test_a_page_without_one_pair_of_marks_is_refused_before_anything_is_drawn(called, page):
    pathlib.Path("page.md").write_text(page)
    assert "page.md must have the marks <!-- curve: begin --> and" in called()
    assert pathlib.Path("page.md").read_text() == page
    assert not pathlib.Path("curve.png").exists()


def test_a_page_that_is_not_there_is_refused_before_anything_is_drawn(called):
    pathlib.Path("page.md").unlink()
    assert "page.md" in called()
    assert not pathlib.Path("curve.png").exists()


def test_two_workdirs_for_one_point_are_refused_by_name(called):
    write_results("runs/c", [make_result("rte", [0.5]), make_result("sst2", [0.1])])
    said = called()
    assert "runs/b and runs/c both hold SST-2 of random weights with 160 training rows" in said
    assert not pathlib.Path("curve.png").exists()


def test_a_tenth_of_a_point_does_not_fill_a_panel(called, tool, monkeypatch):
    figures = []
    monkeypatch.setattr(
        tool, "Figure", lambda **size: figures.append(Figure(**size)) or figures[-1]
    )
    write_results("runs/a", [make_result("sst2", [0.5, 0.501, 0.5], init_from="base")])
    write_results("runs/b", [make_result("sst2", [0.5, 0.5, 0.5])])
    assert called() == ""
    low, high = figures[0].axes[0].get_ylim()
    assert low < 50 and high > 50.1 and high - low == pytest.approx(2)
