"""The page of a fine-tuning."""

import dataclasses
import html.parser
import re

import numpy as np
import pytest

from roberta_jax.errors import UserError
from roberta_jax.report.finetuning import MAX_CLASSES, finetuning_page, write_finetuning_report
from roberta_jax.tasks.results import write_results
from roberta_jax.tasks.task import Task
from tests.tasks.runs import make_result


def page_of(folder, *results):
    write_results(folder, results)
    return finetuning_page(folder)


class Tables(html.parser.HTMLParser):
    """Collects the rows of the tables as lists of texts."""

    def __init__(self):
        super().__init__()
        self.rows, self.inside = [], False

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True
        elif tag == "br" and self.inside:
            self.rows[-1][-1] += " "

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


def rows_of(page):
    tables = Tables()
    tables.feed(page)
    return tables.rows


def test_the_page_has_the_tables_and_the_figures(tmp_path):
    page = page_of(
        tmp_path / "run",
        make_result("sst2", [0.9, 0.8, 0.85], [0.7, 0.6], confusion=((30, 10), (1, 99))),
        make_result("stsb", [0.5]),
    )
    rows = rows_of(page)
    assert rows[1][:3] == ["SST-2", "accuracy", "85.0"]
    assert ["0", "30 75.0%", "10 25.0%"] in rows and ["1", "1 1.0%", "99 99.0%"] in rows
    assert ["1e-05", "16", "3", "3", "85.0", "85.0", "5.0", "80.0", "90.0"] in rows
    assert page.count("<svg") == 3  # One seed of STS-B has no spread.
    assert "Average: 67.5" in page and "published" in page
    assert "Seed 2, which stands for the best trial, after 2 epochs" in page
    assert "<script" not in page and "http" not in re.sub(r'xmlns[^"]*"[^"]*"', "", page)


def test_ids_are_not_repeated(tmp_path):
    page = page_of(tmp_path, make_result("sst2", [0.9, 0.8]), make_result("rte", [0.6, 0.7]))
    outside = re.sub(r"<defs>.*?</defs>", "", page, flags=re.DOTALL)
    names = re.findall(r' id="([^"]+)"', outside)
    assert len(names) == len(set(names))


def test_what_a_user_named_is_escaped(tmp_path):
    evil = "<script>$x_{$ & \"'"
    task = Task(
        name="mine",
        title=evil,
        kind="classification",
        labels=(evil, "b"),
        dev=(evil,),
        scores=("accuracy",),
    )
    page = page_of(
        tmp_path / "<b>",
        make_result(task=task, notes=(evil,), init_from=evil, confusion=((1, 0), (0, 0))),
    )
    assert "<script" not in page and "<b>" not in page
    assert page.count("&lt;script&gt;$x_{$ &amp;") >= 5
    assert ["b", "0 0.0%", "0 0.0%"] in rows_of(page)


def test_many_classes_are_listed_by_their_most_frequent_confusions(tmp_path):
    size = MAX_CLASSES + 1
    confusion = 50 * np.eye(size, dtype=int)
    confusion[3, 4], confusion[5, 0] = 7, 50
    labels = tuple(f"c{number}" for number in range(size))
    task = Task(name="mine", title="Mine", kind="classification", labels=labels)
    result = make_result(task=task, confusion=tuple(map(tuple, confusion.tolist())))
    rows = rows_of(page_of(tmp_path, result))
    assert rows[-2:] == [["c5", "c0", "50", "50.0%"], ["c3", "c4", "7", "12.3%"]]


def test_the_page_is_written_beside_the_results_or_elsewhere(tmp_path):
    write_results(tmp_path, [make_result("rte")])
    path = write_finetuning_report(tmp_path)
    assert path.name == "report.html" and path.read_text() == finetuning_page(tmp_path)
    assert write_finetuning_report(tmp_path, tmp_path / "new" / "other.html").is_file()
    with pytest.raises(UserError, match=r"results\.json"):
        write_finetuning_report(tmp_path / "new")


def test_a_task_without_classes_has_no_confusion(tmp_path):
    assert "Confusion" not in page_of(tmp_path, make_result("stsb"))
    result = dataclasses.replace(make_result("sst2"), confusion=((1, 0), (0, 1)))
    assert "Confusion on dev" in page_of(tmp_path, result)
