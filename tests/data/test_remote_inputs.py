"""gs:// inputs, by a file system of the same interface that lies in memory."""

import gzip
import importlib
import sys

import pytest
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem

from roberta_jax.data.corpus import read_documents
from roberta_jax.data.inputs import Span, find_files, overlap
from roberta_jax.errors import UserError


class Bucket(MemoryFileSystem):
    protocol = ("gcs", "gs")
    store = {}
    pseudo_dirs = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + path.removeprefix("gs://").removeprefix("gcs://").strip("/")

    def info(self, path, **options):
        found = super().info(path, **options)
        return {**found, "mtime": found.get("created"), "updated": found.get("created")}


REGISTRY = importlib.import_module("fsspec.registry")._registry


@pytest.fixture(autouse=True)
def bucket(monkeypatch):
    backend.fsspec_backend._get_filesystem.cache_clear()
    monkeypatch.setitem(REGISTRY, "gcs", Bucket)
    files = Bucket()
    files.store.clear()
    files.pipe("/corpus/a.txt", b"One.\nTwo.\n\nThree.\n")
    files.pipe("/corpus/b.jsonl.gz", gzip.compress(b'{"text": "Four."}\n'))
    files.pipe("/corpus/notes.md", b"x")
    return files


def sentences(inputs):
    return [document.sentences for document in read_documents(find_files(inputs))]


def test_files_globs_and_folders_are_read():
    assert sentences(["gs://corpus/a.txt"]) == [["One.", "Two."], ["Three."]]
    assert sentences(["gs://corpus/*.jsonl.gz"]) == [["Four."]]
    everything = find_files(["gs://corpus"])
    assert [file.path for file in everything] == ["gs://corpus/a.txt", "gs://corpus/b.jsonl.gz"]
    assert everything[0].bytes == 18 and everything[0].modified_ns > 10**18
    assert overlap(everything, everything[:1]) == ["gs://corpus/a.txt"]


def test_a_remote_file_is_divided_like_a_local_one():
    (file,) = find_files(["gs://corpus/a.txt"])
    spans = [Span(file, 0, 5), Span(file, 5, 18)]
    assert [document.sentences for document in read_documents(spans)] == [
        ["One.", "Two."],
        ["Three."],
    ]


@pytest.mark.parametrize("name", ["gs://corpus/none.txt", "gs://corpus/*.zst", "gs://nowhere"])
def test_what_is_not_there_is_told(name):
    with pytest.raises(UserError, match="does not exist|matches no file"):
        find_files([name])


def test_without_the_package_for_it_the_way_is_told(monkeypatch):
    monkeypatch.delitem(REGISTRY, "gcs")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    backend.fsspec_backend._get_filesystem.cache_clear()
    with pytest.raises(UserError, match=r"pip install 'roberta-jax\[gcs\]'"):
        find_files(["gs://corpus/a.txt"])
