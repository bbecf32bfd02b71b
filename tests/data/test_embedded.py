import itertools

import pytest

from roberta_jax.data import embedded
from roberta_jax.data.corpus import read_documents
from roberta_jax.data.embedded import embedded_documents, write_embedded_corpus
from roberta_jax.data.inputs import find_files
from roberta_jax.errors import MachineError


@pytest.fixture(scope="module")
def some():
    return list(itertools.islice(embedded_documents(), 120))


def test_the_documents_are_prose(some):
    text = " ".join(sentence for document in some for sentence in document.sentences)
    assert len(text) > 200_000
    assert " the " in text
    assert ">>>" not in text and "\n" not in text
    assert sum(character.isalpha() or character == " " for character in text) > 0.93 * len(text)


def test_the_documents_are_the_same_every_time(some):
    assert list(itertools.islice(embedded_documents(), 30)) == some[:30]


def test_no_document_comes_twice(some):
    assert len({"\n".join(document.sentences) for document in some}) == len(some)


def test_code_tables_and_signatures_are_left_out(monkeypatch):
    text = """
    parameter : int, optional

    >>> print("this is code that nobody wants to read here at all")

    A paragraph that is wrapped over
    two lines and names ``some_function`` and :class:`~package.Thing` in passing.

    ======  ======
    a       b
    ======  ======

    - An item of a list that has words enough to be read as a sentence by people.

    def function(argument): return argument and more words that look like a sentence
    """
    monkeypatch.setattr(embedded, "_texts", lambda: iter([("x", text * 1), ("y", text * 1)]))
    (document,) = embedded_documents()
    assert document.sentences == [
        "A paragraph that is wrapped over two lines and names some_function and package.Thing in "
        "passing.",
        "An item of a list that has words enough to be read as a sentence by people.",
    ]


def test_the_written_corpus_reads_as_the_same_documents(some, tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "embedded_documents", lambda: iter(some))
    write_embedded_corpus(tmp_path / "new" / "corpus.txt")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["corpus.txt"]
    files = find_files([str(tmp_path / "new" / "corpus.txt")])
    read = []
    for document in read_documents(files):
        if document.is_start:
            read.append([])
        read[-1] += document.sentences
    assert read == [document.sentences for document in some]


def test_a_place_that_cannot_be_written_is_the_machines_fault(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="cannot be written"):
        write_embedded_corpus(tmp_path / "file" / "corpus.txt")
