"""The page is whole, safe, and never half-written."""

import html.parser
import json
import os
import pathlib
import re

import pytest

from roberta_jax.config import PhaseConfig
from roberta_jax.errors import UserError
from roberta_jax.report import page
from roberta_jax.tasks.results import write_results
from tests.report.workdirs import make_config, make_lines, write_workdir
from tests.tasks.runs import make_result

EMPTY_TAGS = {"meta", "link", "br", "img", "input", "hr"}


class Structure(html.parser.HTMLParser):
    """Tags, their nesting, and the visible text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in EMPTY_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def two_runs(tmp_path):
    lines = make_lines(num_steps=500)
    return [
        write_workdir(tmp_path / "a", lines),
        write_workdir(tmp_path / "b", lines, make_config(train__batch_size=64)),
    ]


def test_a_page_of_one_run_holds_its_figures_numbers_and_whole_config(tmp_path):
    folder = write_workdir(tmp_path / "run", make_lines(num_steps=500))
    path = page.write_report([folder], page.default_output([folder]))
    assert path == folder / "report.html"
    structure = Structure(path.read_text())
    assert [tag for tag, _ in structure.tags].count("figure") == 6
    assert "4 layers × 256, 4 heads" in structure.text
    assert "fresh start" in structure.text  # The event.
    for name in ("optimizer.clip_global_norm", "seed", "data.path"):
        assert name in structure.text


def test_a_page_loads_nothing_from_elsewhere(tmp_path):
    text = page.write_report(two_runs(tmp_path), tmp_path / "page.html").read_text()
    for tag, attributes in Structure(text).tags:
        assert tag not in {"script", "link", "img", "iframe", "object"}
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith("#")
    assert not re.search(r"url\((?!#)|@import", text)


def test_a_page_of_two_runs_shows_which_settings_differ(tmp_path):
    structure = Structure(page.write_report(two_runs(tmp_path), tmp_path / "page.html").read_text())
    differing = structure.text.split("Settings that differ")[1].split("Every setting")[0]
    assert "train.batch_size" in differing and "64" in differing
    assert "encoder.num_layers" not in differing


def test_a_page_says_what_its_curves_are_drawn_over(tmp_path):
    folders = two_runs(tmp_path)
    text = page.write_report(folders, tmp_path / "page.html").read_text()
    assert "Over the rows seen" in Structure(text).text
    text = page.write_report(folders[:1], tmp_path / "page.html").read_text()
    assert "Over the rows seen" not in Structure(text).text


def test_a_page_of_pairs_shows_how_often_the_order_was_told(tmp_path):
    folder = write_workdir(tmp_path / "run", make_lines(num_steps=500, pairs=True))
    structure = Structure(page.write_report([folder], tmp_path / "page.html").read_text())
    assert [tag for tag, _ in structure.tags].count("figure") == 7
    assert "next-sentence accuracy, last" in structure.text


def test_a_page_of_phases_names_their_settings_by_number(tmp_path):
    config = make_config(phases=(PhaseConfig(duration="90%"), PhaseConfig(duration="10%")))
    folder = write_workdir(tmp_path / "run", make_lines(num_steps=50), config)
    structure = Structure(page.write_report([folder], tmp_path / "page.html").read_text())
    assert "phases[0].duration" in structure.text and "phases[1].warmup" in structure.text


def test_two_runs_of_the_same_config_say_so(tmp_path):
    runs = [write_workdir(tmp_path / name, make_lines(num_steps=50)) for name in "ab"]
    text = page.write_report(runs, tmp_path / "page.html").read_text()
    assert "the runs have the same config" in text


def test_what_a_run_wrote_is_escaped(tmp_path):
    evil = "<script>alert('x')</script>&amp;"
    config = make_config(data__path=evil)
    lines = make_lines(num_steps=50)
    lines.append({"kind": "event", "step": 50, "event": evil, "message": evil})
    folder = write_workdir(tmp_path / "<b>run", lines, config)
    text = page.write_report([folder], tmp_path / "page.html").read_text()
    structure = Structure(text)
    assert "script" not in {tag for tag, _ in structure.tags} and "<b>" not in text
    assert structure.text.count(evil) == 3


def test_a_note_about_a_half_written_line_is_on_the_page(tmp_path):
    folder = write_workdir(tmp_path / "killed", make_lines(num_steps=50))
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"kind"')
    text = page.write_report([folder], tmp_path / "page.html").read_text()
    assert "half-written" in Structure(text).text


def test_a_failed_rewrite_leaves_the_old_page_and_no_temporary_file(tmp_path):
    folder = write_workdir(tmp_path / "run", make_lines(num_steps=50))
    output = page.write_report([folder], folder / "report.html")
    before = output.read_text()
    (folder / "metrics.jsonl").write_text("")
    with pytest.raises(UserError):
        page.write_report([folder], output)
    assert output.read_text() == before
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "metrics.jsonl",
        "report.html",
    ]


def test_the_page_appears_under_its_name_only_when_whole(tmp_path, monkeypatch):
    folder = write_workdir(tmp_path / "run", make_lines(num_steps=50))
    seen = []
    replace = os.replace

    def watched(source, target):
        seen.append((os.path.exists(target), "</html>" in pathlib.Path(source).read_text()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    page.write_report([folder], folder / "report.html")
    assert seen == [(False, True)]


def test_watching_draws_again_only_when_the_metrics_have_grown(tmp_path):
    folder = write_workdir(tmp_path / "run", make_lines(num_steps=50))
    output = tmp_path / "page.html"
    drawn = []

    def sleep(seconds):
        assert seconds == 7
        drawn.append(output.stat().st_mtime_ns)
        if len(drawn) == 2:
            with open(folder / "metrics.jsonl", "a") as file:
                line = {"kind": "train", "step": 60, "loss_nats": 1.0}
                file.write(json.dumps(line) + "\n")
        if len(drawn) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        page.watch_report([folder], output, interval_seconds=7, sleep=sleep)
    assert drawn[0] == drawn[1] < drawn[2]
    assert '<meta http-equiv="refresh" content="7">' in output.read_text()


def test_of_a_fine_tuning_the_results_are_watched(tmp_path):
    output = tmp_path / "page.html"
    tasks = [make_result("rte")]
    write_results(tmp_path / "run", tasks)

    def sleep(seconds):
        text = output.read_text()
        assert '<meta http-equiv="refresh" content="7">' in text
        if "QNLI" in text:
            raise KeyboardInterrupt
        tasks.append(make_result("qnli"))
        write_results(tmp_path / "run", tasks)

    with pytest.raises(KeyboardInterrupt):
        page.watch_report([tmp_path / "run"], output, interval_seconds=7, sleep=sleep)


def test_the_loss_can_be_saved_as_one_image_of_a_known_kind(tmp_path):
    folder = write_workdir(tmp_path / "run", make_lines(num_steps=50))
    path = page.write_loss_figure([folder], tmp_path / "docs" / "loss.svg")
    assert path.read_text().startswith("<?xml")
    with pytest.raises(UserError, match=r"\.svg, \.png, \.pdf"):
        page.write_loss_figure([folder], tmp_path / "loss.jpeg")
    with pytest.raises(UserError, match="No workdir"):
        page.default_output([])
