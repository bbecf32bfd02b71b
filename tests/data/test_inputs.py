import gzip
import os

import pytest

from roberta_jax.data.inputs import InputReader, Span, find_files, overlap
from roberta_jax.errors import UserError


@pytest.fixture
def folder(tmp_path):
    for name in ("b.txt", "a.jsonl", "deep/er/c.json", "notes.md", "d.txt.gz"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(b"x\n") if name.endswith(".gz") else b"x\n")
    return tmp_path


def names(folder, *inputs):
    return [os.path.relpath(file.path, folder) for file in find_files(inputs)]


def test_files_folders_and_globs_are_found_in_order(folder):
    everything = ["a.jsonl", "b.txt", "d.txt.gz", "deep/er/c.json"]
    assert names(folder, str(folder)) == everything
    assert names(folder, f"{folder}/*.txt*") == ["b.txt", "d.txt.gz"]
    assert names(folder, f"{folder}/**/*.json") == ["deep/er/c.json"]
    # Each once, in the order given.
    assert names(folder, f"{folder}/d.txt.gz", str(folder))[0] == "d.txt.gz"
    assert sorted(names(folder, f"{folder}/d.txt.gz", str(folder))) == everything


def test_hidden_files_and_folders_are_no_corpus(folder):
    for name in (".hidden/x.txt", "deep/.git/y.txt", ".z.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x\n")
    assert names(folder, str(folder)) == ["a.jsonl", "b.txt", "d.txt.gz", "deep/er/c.json"]
    assert names(folder, f"{folder}/.z.txt") == [".z.txt"]  # Named, it is meant.


def test_a_relative_glob_is_found(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert [file.path for file in find_files(["*.txt"])] == ["b.txt"]


def test_a_file_is_described_by_size_and_time(folder):
    os.utime(folder / "b.txt", ns=(1, 123456789))
    (file,) = find_files([str(folder / "b.txt")])
    assert (file.bytes, file.modified_ns, file.is_json_lines) == (2, 123456789, False)
    assert find_files([str(folder / "a.jsonl")])[0].is_json_lines


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "No input is given"),
        (["missing.txt"], "missing.txt does not exist"),
        (["*.jsonl.gz"], "matches no file"),
        (["notes.md"], "unknown type"),
        (["*"], "unknown type"),
        (["void"], "no files that end in .txt"),
        (["empty.txt"], "is empty"),
    ],
)
def test_inputs_that_name_nothing_are_refused(folder, monkeypatch, given, message):
    monkeypatch.chdir(folder)
    (folder / "void").mkdir()
    (folder / "empty.txt").touch()
    with pytest.raises(UserError, match=message):
        find_files(given)


def test_a_file_that_vanished_or_is_cut_off_is_named(folder):
    path = folder / "d.txt.gz"
    path.write_bytes(gzip.compress(os.urandom(5000))[:-100])
    (file,) = find_files([str(path)])
    with pytest.raises(UserError, match=r"d\.txt\.gz is damaged or cut off"):
        list(InputReader(Span.whole(file)).lines(1 << 20))
    path.write_bytes(b"no gzip")
    with pytest.raises(UserError, match=r"d\.txt\.gz is damaged or cut off"):
        list(InputReader(Span.whole(file)).lines(1 << 20))
    path.unlink()
    with pytest.raises(UserError, match=r"d\.txt\.gz cannot be read"):
        InputReader(Span.whole(file))


def test_progress_counts_stored_and_uncompressed_bytes(folder):
    text = b"many words\n" * 10_000
    (folder / "d.txt.gz").write_bytes(gzip.compress(text))
    (file,) = find_files([str(folder / "d.txt.gz")])
    reader = InputReader(Span.whole(file))
    assert b"".join(line for _, line in reader.lines(100)) == text
    assert reader.stored_bytes_read == file.bytes < reader.text_bytes_read == len(text)


def test_a_file_is_taken_once_whatever_it_is_called(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "link.txt").symlink_to("b.txt")
    assert len(find_files(["b.txt", str(folder / "b.txt"), "./b.txt", "link.txt"])) == 1
    train = find_files(["b.txt", "a.jsonl"])
    assert overlap(train, find_files(["d.txt.gz", "link.txt"])) == ["link.txt"]
    assert overlap(train, find_files(["d.txt.gz"])) == []


def test_a_link_to_nothing_is_named(folder):
    (folder / "z.txt").symlink_to("nowhere.txt")
    with pytest.raises(UserError, match=r"z\.txt cannot be read: No such file"):
        find_files([str(folder)])
