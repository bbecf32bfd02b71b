import concurrent.futures
import os
import signal

import numpy as np
import pytest

from roberta_jax.data import encoding
from roberta_jax.data.corpus import Document
from roberta_jax.data.encoding import encode_documents, processes_for
from roberta_jax.errors import MachineError


def labelled(documents):
    return [("train", Document(sentences, "", True)) for sentences in documents]


def test_ids_are_those_of_the_sentences(tokenizer, documents):
    encoded = list(encode_documents(tokenizer, iter(labelled(documents)), num_processes=0))
    assert len(encoded) == len(documents)
    for (split, is_start, ids), sentences in zip(encoded, documents, strict=True):
        assert (split, is_start) == ("train", True)
        expected = [i for sentence in sentences for i in [*tokenizer.encode(sentence), 2]]
        assert ids.tolist() == expected


def test_processes_change_neither_ids_nor_order(tokenizer, documents, monkeypatch):
    monkeypatch.setattr(encoding, "BATCH_CHARACTERS", 500)
    here = list(encode_documents(tokenizer, iter(labelled(documents)), num_processes=0))
    there = list(encode_documents(tokenizer, iter(labelled(documents)), num_processes=2))
    assert len(here) == len(there) == len(documents)
    for one, other in zip(here, there, strict=True):
        assert one[:2] == other[:2]
        np.testing.assert_array_equal(one[2], other[2])


def test_documents_are_read_only_a_little_ahead(tokenizer, monkeypatch):
    monkeypatch.setattr(encoding, "BATCH_CHARACTERS", 100)
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1
            yield "train", Document(["word " * 19 + "word."], "")

    encoded = encode_documents(tokenizer, endless(), num_processes=1)
    for _ in range(5):
        next(encoded)
    encoded.close()
    assert read < 12


def test_a_killed_process_is_the_machines_fault(tokenizer, monkeypatch):
    monkeypatch.setattr(encoding, "BATCH_CHARACTERS", 100)
    pids = []
    submit = concurrent.futures.ProcessPoolExecutor.submit

    def submit_and_kill(self, *arguments):
        future = submit(self, *arguments)
        if not pids:
            pids.extend(self._processes)
            os.kill(pids[0], signal.SIGKILL)
        return future

    monkeypatch.setattr(concurrent.futures.ProcessPoolExecutor, "submit", submit_and_kill)
    documents = labelled([["word " * 19 + "word."]] * 20)
    with pytest.raises(MachineError, match="was killed"):
        list(encode_documents(tokenizer, iter(documents), num_processes=1))


@pytest.mark.parametrize(("cores", "processes"), [(1, 1), (2, 2), (4, 4), (64, 4)])
def test_large_inputs_have_a_process_for_each_core_up_to_four(monkeypatch, cores, processes):
    monkeypatch.setattr(encoding, "cores", lambda: cores)
    assert processes_for(10**9) == processes
    assert processes_for(1000) == 0  # Starting one would take longer than the work.
