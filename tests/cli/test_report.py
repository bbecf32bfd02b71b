"""roberta-jax report."""

import pytest

from roberta_jax.cli.main import main
from roberta_jax.report import page
from roberta_jax.tasks.results import write_results
from tests.tasks.runs import make_result


def test_a_page_is_written_into_the_first_workdir_or_where_it_is_wanted(
    complete, tmp_path, capsys, monkeypatch
):
    written = []

    def write_report(workdirs, output):
        written.append((list(workdirs), str(output)))
        return output

    monkeypatch.setattr(page, "write_report", write_report)
    assert main(["report", "--workdir=a", "--workdir=b"]) == 0
    assert main(["report", "--workdir=a", f"--output={tmp_path}/x.html"]) == 0
    assert written == [(["a", "b"], "a/report.html"), (["a"], f"{tmp_path}/x.html")]
    assert capsys.readouterr().out.endswith(f"Wrote {tmp_path}/x.html\n")


def test_the_page_of_a_real_run(complete, tmp_path, capfd):
    output = tmp_path / "run.html"
    assert main(["report", f"--workdir={complete}", f"--output={output}"]) == 0
    said = capfd.readouterr()
    assert said.out == f"Wrote {output}\n" and said.err == ""
    assert "<svg" in output.read_text()


def test_a_picture_alone(complete, tmp_path, capsys):
    figure = tmp_path / "loss.svg"
    assert main(["report", f"--workdir={complete}", f"--figure={figure}"]) == 0
    assert figure.read_text().count("<svg") == 1


def test_the_page_of_a_fine_tuning_is_drawn_again(tmp_path, capsys):
    write_results(tmp_path, [make_result("rte", [0.7, 0.6])])
    assert main(["report", f"--workdir={tmp_path}"]) == 0
    output = tmp_path / "report.html"
    assert capsys.readouterr().out == f"Wrote {output}\n"
    assert "<svg" in output.read_text() and "RTE" in output.read_text()


def test_a_fine_tuning_is_not_drawn_beside_runs_and_has_no_loss(complete, tmp_path, capsys):
    workdir = tmp_path / "tuned"
    write_results(workdir, [make_result("rte")])
    figure = f"--figure={tmp_path}/loss.svg"
    for flags in ([f"--workdir={complete}"], [figure]):
        assert main(["report", f"--workdir={workdir}", *flags]) == 2
        error = capsys.readouterr().err
        assert "is a fine-tuning workdir, and cannot be drawn beside" in error
        assert error.count("\n") == 1
    model = tmp_path / "tuned" / "rte" / "model"
    model.mkdir(parents=True)
    (model / "task.json").write_text("{}")
    assert main(["report", f"--workdir={model.parent}"]) == 2
    assert "is a fine-tuned model, and cannot be drawn" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workdir=nowhere"], "The workdir nowhere does not exist"),
        (["--workdir=nowhere", "--watch=-1"], "--watch=-1"),
    ],
)
def test_what_cannot_be_drawn_is_one_paragraph(capsys, tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
