import hashlib
import json
import os
import pathlib
import resource
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roberta_jax.data import duplicates, parts
from roberta_jax.data.bad_text import ReadCounts
from roberta_jax.data.corpus import Document
from roberta_jax.data.duplicates import HashParts, duplicates_of, find_duplicates
from roberta_jax.data.inputs import find_files
from roberta_jax.data.part_writer import without_duplicates
from roberta_jax.data.parts import plan_parts
from roberta_jax.data.prepare import prepare
from roberta_jax.data.prepare_settings import PrepareSettings
from roberta_jax.data.records import open_dataset
from roberta_jax.errors import UserError


def write(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def left_out(folder, splits, **options):
    """What is left out of every part, where every file is a part."""
    files = {split: find_files(paths) for split, paths in splits.items() if paths}
    found = [
        parts.Part(number, split, (parts.Span.whole(file),))
        for number, (split, file) in enumerate((s, f) for s in files for f in files[s])
    ]
    work = HashParts(folder / "hashes", PrepareSettings(**options))
    for part in found:
        work(part, lambda *counts: None)
    find_duplicates(folder / "hashes", found, folder / "duplicates")
    assert not (folder / "hashes").exists()
    return [duplicates_of(folder / "duplicates", part).tolist() for part in found]


def test_the_first_document_stays(tmp_path):
    a = write(tmp_path / "a.jsonl", ["One.", "Two.", "One.", "", "Three.\nFour."])
    b = write(tmp_path / "b.jsonl", ["Two.", "Three. Four.", " Three. \n\nFour.", "one."])
    # Documents without text have no number; white space at the ends of lines is no difference.
    assert left_out(tmp_path, {"train": [a, b]}) == [[2], [0, 2]]


def test_validation_text_goes_before_training_text(tmp_path):
    a = write(tmp_path / "a.jsonl", ["One.", "Two.", "One."])
    b = write(tmp_path / "b.jsonl", ["Three.", "One."])
    assert left_out(tmp_path, {"train": [a], "validation": [b]}) == [[0, 2], []]


@given(
    texts=st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=12), min_size=1, max_size=5),
    run=st.integers(1, 5),
    bucket=st.integers(1, 6),
)
@settings(deadline=None, max_examples=60)
def test_runs_and_buckets_change_nothing(tmp_path_factory, texts, run, bucket):
    folder = tmp_path_factory.mktemp("duplicates")
    names = [write(folder / f"{i}.jsonl", one) for i, one in enumerate(texts)]
    if not any(texts):
        return
    seen, expected = set(), []
    for one in texts:
        if one:  # An empty file is no part of a corpus.
            expected.append([])
        for number, text in enumerate(one):
            if text in seen:
                expected[-1].append(number)
            seen.add(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "RUN_DOCUMENTS", run)
        patch.setattr(duplicates, "BUCKET_DOCUMENTS", bucket)
        given_names = [name for name, one in zip(names, texts, strict=True) if one]
        assert left_out(folder, {"train": given_names}) == expected


def test_the_whole_hash_counts(tmp_path, monkeypatch):
    digests = iter([b"\0" * 15 + b"\1", b"\0" * 16, b"\xff" * 16, b"\0" * 16, b"\xff" * 16])
    monkeypatch.setattr(duplicates, "_digests", lambda documents: digests)
    assert left_out(tmp_path, {"train": [write(tmp_path / "a.jsonl", "x")]}) == [[3, 4]]


def test_memory_does_not_grow_with_the_documents(tmp_path, monkeypatch):
    monkeypatch.setattr(duplicates, "RUN_DOCUMENTS", 1 << 12)
    monkeypatch.setattr(duplicates, "BUCKET_DOCUMENTS", 1 << 12)

    def peak(count):
        monkeypatch.setattr(
            duplicates,
            "_digests",
            lambda documents: (hashlib.md5(b"%d" % i).digest() for i in range(count)),
        )
        (tmp_path / str(count)).mkdir()
        path = write(tmp_path / "a.jsonl", "x")
        tracemalloc.start()
        try:
            assert left_out(tmp_path / str(count), {"train": [path]}) == [[]]
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(1 << 15) < 1.3 * peak(1 << 13)


def test_pieces_of_a_document_share_its_fate():
    documents = [
        Document(["a"], "x"),
        Document(["b"], "x", is_start=False),
        Document(["c"], "y"),
        Document(["d"], "z"),
        Document(["e"], "z", is_start=False),
    ]
    counts = ReadCounts()
    kept = list(without_duplicates(iter(documents), np.array([0, 2]), counts))
    assert [document.sentences for document in kept] == [["c"]]
    assert counts.duplicates == 2


def test_long_documents_are_told_apart_by_their_ends(tmp_path):
    text = "word " * 20_000
    path = write(tmp_path / "a.jsonl", [text + "x", text + "y", text + "x"])
    assert left_out(tmp_path, {"train": [path]}) == [[2]]


def run(inputs, tokenizer_folder, output, validation_inputs=(), said=None, **options):
    return prepare(
        inputs=inputs,
        tokenizer_folder=tokenizer_folder,
        output=output,
        validation_inputs=validation_inputs,
        settings=PrepareSettings(**{"sequence_length": 32, "validation_fraction": 0.1, **options}),
        say=(said if said is not None else []).append,
    )


def rows(folder):
    return {
        split: open_dataset(folder, split).read(np.arange(len(open_dataset(folder, split))))
        for split in ("train", "validation")
    }


@pytest.fixture
def corpora(documents, tmp_path):
    """Names of the files of a corpus, and of the same with half of its documents repeated."""
    texts = ["\n".join(document) for document in documents]
    once = write(tmp_path / "once.jsonl", texts)
    twice = [write(tmp_path / f"twice{i}.jsonl", texts[: 20 * (2 - i)]) for i in range(2)]
    return once, twice


def test_a_corpus_without_its_duplicates_is_the_corpus(corpora, tokenizer_folder, tmp_path):
    once, twice = corpora
    said = []
    manifest = run(twice, tokenizer_folder, tmp_path / "a", said=said, drop_duplicates=True)
    assert manifest.odd_text["duplicates"] == 20
    assert any("20 documents were left out" in line for line in said)
    run([once], tokenizer_folder, tmp_path / "b")
    for split, expected in rows(tmp_path / "b").items():
        np.testing.assert_array_equal(rows(tmp_path / "a")[split], expected)
    assert not list(tmp_path.glob("*.unfinished"))


def test_what_was_hashed_before_a_stop_is_not_hashed_again(
    corpora, tokenizer_folder, tmp_path, monkeypatch
):
    _, twice = corpora
    monkeypatch.setattr(parts, "PART_BYTES", 3000)
    run(twice, tokenizer_folder, tmp_path / "whole", drop_duplicates=True)
    digests, hashed = duplicates._digests, []

    def stop_at_the_third(documents):
        if len(hashed) == 2:
            raise UserError("stop")
        hashed.append(1)
        return digests(documents)

    with monkeypatch.context() as patch:
        patch.setattr(duplicates, "_digests", stop_at_the_third)
        with pytest.raises(UserError, match="stop"):
            run(twice, tokenizer_folder, tmp_path / "out", drop_duplicates=True)
    assert len(list((tmp_path / "out.unfinished").glob("duplicates/hashes-*/part-*"))) == 2

    def count(documents):
        hashed.append(1)
        return digests(documents)

    monkeypatch.setattr(duplicates, "_digests", count)
    run(twice, tokenizer_folder, tmp_path / "out", drop_duplicates=True)
    assert len(hashed) == len(plan_parts({"train": find_files(twice)}))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def contents(folder: pathlib.Path):
    return {path.name: path.read_bytes() for path in folder.glob("*.*")}


def test_parts_depend_on_the_documents_of_all_others(
    corpora, tokenizer_folder, tmp_path, monkeypatch
):
    """A part that was finished beside other inputs may have dropped too much or too little."""
    _, twice = corpora
    monkeypatch.setattr(parts, "PART_BYTES", 3000)
    options = {"drop_duplicates": True, "validation_fraction": 0}
    with monkeypatch.context() as patch:
        patch.setattr("roberta_jax.data.prepare.assemble", None)
        with pytest.raises(TypeError):
            run(twice[:1], tokenizer_folder, tmp_path / "out", twice[1:], **options)
    said = []
    manifest = run(twice[:1], tokenizer_folder, tmp_path / "out", said=said, **options)
    assert not any(line.startswith("going on") for line in said)
    assert manifest.splits["train"].documents == 40


def test_more_runs_than_a_process_may_open(tmp_path, monkeypatch):
    monkeypatch.setattr(duplicates, "RUN_DOCUMENTS", 1)
    path = write(tmp_path / "a.jsonl", [str(i % 90) for i in range(100)])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 100
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 30, hard))
    try:
        assert left_out(tmp_path, {"train": [path]}) == [list(range(90, 100))]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_stop_between_says_what_stays_and_another_run_removes_it(
    corpora, tokenizer_folder, tmp_path, monkeypatch
):
    once, twice = corpora
    said = []
    with monkeypatch.context() as patch:
        patch.setattr("roberta_jax.data.prepare.find_duplicates", None)
        with pytest.raises(TypeError):
            run(twice, tokenizer_folder, tmp_path / "out", said=said, drop_duplicates=True)
    assert said[-1].startswith("stopped: 0 of ") and "searched for duplicates" in said[-1]
    with pytest.raises(UserError, match="too small"):
        run([once], tokenizer_folder, tmp_path / "out", sequence_length=10**5)
    assert not (tmp_path / "out.unfinished").exists()


def test_a_corpus_of_nothing_but_duplicates_is_told(corpora, tokenizer_folder, tmp_path):
    once, twice = corpora
    with pytest.raises(UserError, match=r"too small: 0 documents .*left out were 40 as duplicates"):
        run(
            twice[:1],
            tokenizer_folder,
            tmp_path / "out",
            [once],
            drop_duplicates=True,
            validation_fraction=0,
        )


def test_other_settings_of_rows_need_no_new_hashes(
    corpora, tokenizer_folder, tmp_path, monkeypatch
):
    _, twice = corpora
    with monkeypatch.context() as patch:
        patch.setattr("roberta_jax.data.prepare.assemble", None)
        with pytest.raises(TypeError):
            run(twice, tokenizer_folder, tmp_path / "out", drop_duplicates=True)
    monkeypatch.setattr(duplicates, "_digests", None)
    run(twice, tokenizer_folder, tmp_path / "out", drop_duplicates=True, rows_per_shard=50)
