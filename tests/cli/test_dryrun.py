"""roberta-jax dryrun."""

import pytest

from roberta_jax.cli.main import main
from roberta_jax.dryrun import worker
from tests.dryrun.cases import phase_result, result

CONFIG = "--config=configs/pretrain/base.py"


@pytest.fixture
def asked(monkeypatch):
    """Answers without compiling: it needs 12 GiB, or 20 without rematerialization."""
    calls = []

    def compile_for(config, topology, memory_bytes):
        calls.append((config, topology, memory_bytes))
        policy = config.encoder.rematerialization
        peak = 20 if policy == "none" else 12
        size = {"peak" if peak * 2**30 <= memory_bytes else "needed": peak}
        parts = config.train.num_microbatches or 1
        phase = phase_result(**size, batch_size=8192, num_microbatches=parts)
        mesh = (topology.num_devices, 1, 1)
        return result(phase, mesh=mesh, policy=policy)

    monkeypatch.setattr(worker, "compile_for", compile_for)
    return calls


def test_what_fits_is_0(asked, capsys):
    assert main(["dryrun", CONFIG, "--topology=v5e:4x4"]) == 0
    ((config, topology, memory_bytes),) = asked
    assert config.encoder.num_layers == 12 and topology.num_devices == 16
    assert memory_bytes == 15.75 * 2**30
    said = capsys.readouterr()
    assert said.err == "" and said.out.endswith("It fits.\n") and "peak of 15.75" in said.out


def test_what_does_not_fit_is_1_and_a_paragraph(asked, capsys):
    flag = "--config.encoder.rematerialization=none"
    assert main(["dryrun", CONFIG, flag, "--topology=v5e:4x4"]) == 1
    said = capsys.readouterr()
    last = said.out.splitlines()[-1]
    assert last.startswith("It does not fit: ") and "4.25 GiB are missing" in last
    assert "rematerialization=full" in last and "Traceback" not in said.out + said.err


def test_a_memory_of_ones_own(asked, capsys):
    assert main(["dryrun", CONFIG, "--topology=cpu:8", "--memory=11.5"]) == 1
    assert asked[0][2] == 11.5 * 2**30
    assert "0.50 GiB are missing" in capsys.readouterr().out


def test_a_search_lists_what_fits(asked, capsys):
    assert main(["dryrun", CONFIG, "--topology=v5e:4x4", "--search"]) == 0
    said = capsys.readouterr().out
    assert "does not fit (" in said and "What fits, best first:\n  1. peak 12.00 GiB" in said


def test_a_page_is_written_of_a_result_and_of_a_search(asked, capsys, tmp_path):
    path = tmp_path / "new" / "page.html"
    assert main(["dryrun", CONFIG, "--topology=v5e:4x4", f"--output={path}"]) == 0
    assert capsys.readouterr().out.endswith(f"It fits.\nWrote {path}\n")
    assert "<h1>base on v5e:4x4: fits</h1>" in path.read_text()
    flag = "--config.encoder.rematerialization=none"
    assert main(["dryrun", CONFIG, flag, "--topology=v5e:4x4", f"--output={path}"]) == 1
    assert "<h1>base on v5e:4x4: does not fit</h1>" in path.read_text()
    assert main(["dryrun", CONFIG, "--topology=v5e:4x4", "--search", f"--output={path}"]) == 0
    assert "<h1>base on v5e:4x4: search</h1>" in path.read_text()
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupted_search_prints_what_it_found_and_is_130(monkeypatch, capsys):
    def compile_for(config, topology, memory_bytes):
        if config.mesh.fsdp > 1:
            raise KeyboardInterrupt
        mesh = (config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
        return result(phase_result(peak=12), mesh=mesh, policy=config.encoder.rematerialization)

    monkeypatch.setattr(worker, "compile_for", compile_for)
    assert main(["dryrun", CONFIG, "--topology=v5e:4x4", "--search"]) == 130
    said = capsys.readouterr()
    assert "Interrupted; of what was tried until then:\nWhat fits, best first:" in said.out
    assert "  3. peak 12.00 GiB" in said.out and said.err == "roberta-jax: interrupted\n"


def test_a_search_that_finds_nothing_is_1(asked, capsys):
    assert main(["dryrun", CONFIG, "--topology=v5e:4x4", "--search", "--memory=1"]) == 1
    assert "Nothing that was tried fits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--topology is missing"),
        (["--topology=v9:4x4"], "There are v4:AxBxC, v5e:AxB, v5p:AxBxC, v6e:AxB"),
        (["--topology=cpu:2", "--memory=-1"], "--memory=-1"),
        (["--topology=cpu:2", "--memory=nan"], "--memory=nan"),
        (["--topology=v5e:4x4", "--memory=16"], "more than a device of v5e:4x4 has, 15.75 GiB"),
        (["--topology=cpu:2", "more"], "no positional arguments"),
        (["--topology=cpu:2", "--output=page.pdf"], "--output=page.pdf must be the name of a file"),
        (["--topology=cpu:2", "--output=configs"], "ends in .html"),
        (["--topology=cpu:2", "--config.train.batch_size=0"], "train.batch_size"),
    ],
)
def test_bad_input_is_2_and_one_paragraph(asked, capsys, flags, message):
    assert main(["dryrun", CONFIG, *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and asked == []


def test_a_missing_config_is_2(asked, capsys):
    assert main(["dryrun", "--topology=cpu:2"]) == 2
    assert "--config is missing" in capsys.readouterr().err and asked == []
