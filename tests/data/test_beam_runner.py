"""The same bytes from Apache Beam's local runner; what needs Beam is marked beam."""

import errno
import shutil
import subprocess
import sys

import pytest

from roberta_jax.data import part_work, parts
from roberta_jax.data.prepare import prepare
from roberta_jax.data.prepare_settings import PrepareSettings
from roberta_jax.data.runners import BeamRunner, LocalRunner
from roberta_jax.errors import MachineError, UserError

# In this process, so that a test can change what is done.
INLINE = ("--runner=FnApiRunner", "--direct_running_mode=in_memory")


@pytest.fixture(autouse=True)
def many_parts(monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", 3000)


def run(inputs, tokenizer_folder, output, runner, said=None, **options):
    return prepare(
        inputs=[str(path) for path in inputs],
        tokenizer_folder=tokenizer_folder,
        output=output,
        settings=PrepareSettings(sequence_length=32, **options),
        runner=runner,
        say=(said if said is not None else []).append,
    )


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.beam
@pytest.mark.parametrize("options", [INLINE, ()])
@pytest.mark.parametrize(
    "settings", [{}, {"format": "segment_pair", "seed": 3, "drop_duplicates": True}]
)
def test_a_pipeline_makes_the_same_bytes(
    corpus_folder, tokenizer_folder, tmp_path, monkeypatch, options, settings
):
    monkeypatch.chdir(corpus_folder)  # Paths are relative here and elsewhere.
    shutil.copy("b.jsonl", tmp_path / "d.jsonl")
    inputs = ["a.txt", "b.jsonl", tmp_path / "d.jsonl"]
    run(inputs, tokenizer_folder, tmp_path / "local", LocalRunner(1), **settings)
    manifest = run(inputs, tokenizer_folder, tmp_path / "beam", BeamRunner(options), **settings)
    assert len(manifest.splits["train"].shards) > 5
    assert manifest.odd_text["duplicates"] == (10 if "drop_duplicates" in settings else 0)
    assert contents(tmp_path / "beam") == contents(tmp_path / "local")
    assert not list(tmp_path.glob("*.unfinished"))


@pytest.mark.beam
def test_what_is_damaged_is_named_and_the_rest_is_kept(corpus_folder, tokenizer_folder, tmp_path):
    folder = tmp_path / "corpus"
    shutil.copytree(corpus_folder, folder)
    whole = (folder / "c.jsonl.gz").read_bytes()
    (folder / "c.jsonl.gz").write_bytes(whole[:-20])
    with pytest.raises(UserError, match=r"^The input .*c\.jsonl\.gz is damaged or cut off"):
        run([folder], tokenizer_folder, tmp_path / "out", BeamRunner(INLINE))
    (folder / "c.jsonl.gz").write_bytes(whole)
    said = []
    run([folder], tokenizer_folder, tmp_path / "out", LocalRunner(), said)
    assert said[0].startswith("going on: ")


@pytest.mark.beam
@pytest.mark.parametrize(
    "option",
    ["--runner=NoSuchRunner", "--direct_num_wrokers=4", "FlinkRunner", "--direct_num_workers=four"],
)
def test_an_option_that_beam_does_not_know_is_told(
    corpus_folder, tokenizer_folder, tmp_path, option
):
    with pytest.raises(UserError, match=f"--beam_options='{option}' cannot be used"):
        run([corpus_folder], tokenizer_folder, tmp_path / "out", BeamRunner((option,)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.beam
def test_a_full_disk_of_a_worker_is_the_machines_fault(
    corpus_folder, tokenizer_folder, tmp_path, monkeypatch
):
    def write_part(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device", "shard")

    monkeypatch.setattr(part_work, "write_part", write_part)
    with pytest.raises(MachineError, match="cannot write: No space left on device .shard."):
        run([corpus_folder], tokenizer_folder, tmp_path / "out", BeamRunner(INLINE))
    assert list(tmp_path.iterdir()) == []


def test_without_beam_the_way_to_it_is_told(corpus_folder, tokenizer_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(UserError, match=r"needs Apache Beam.*pip install 'roberta-jax\[beam\]'"):
        run([corpus_folder], tokenizer_folder, tmp_path / "out", BeamRunner())
    assert list(tmp_path.iterdir()) == []


def test_a_local_run_does_not_import_beam():
    code = "import sys, roberta_jax.cli.prepare; assert 'apache_beam' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
