import shutil

import numpy as np
import pytest

from roberta_jax.data.inspection import (
    describe,
    histogram,
    lengths_of,
    verify_dataset,
)
from roberta_jax.data.manifest import Manifest
from roberta_jax.errors import UserError


def test_lengths_of_examples_and_sentences(tokenizer):
    rows = np.array(
        [
            [0, 10, 11, 2, 12, 2, 0, 13, 2, 1],
            [0, 14, 2, 2, 15, 16, 17, 2, 1, 1],
        ]
    )
    lengths = lengths_of(rows, tokenizer)
    assert lengths.examples.tolist() == [6, 3, 8]
    assert lengths.sentences.tolist() == [2, 1, 1, 1, 3]


def test_a_histogram_draws_shares():
    lines = histogram(np.array([1] * 30 + [4] * 10 + [5] * 20), bins=3)
    assert lines == [
        "  1 to 2 tokens  50.0% " + "█" * 40,
        "  3 to 4 tokens  16.7% " + "█" * 13,
        "  5 to 5 tokens  33.3% " + "█" * 27,
    ]
    assert histogram(np.array([], int)) == ["  none"]
    assert len(histogram(np.array([5, 5, 5]))) == 1


def test_the_description_has_the_counts_of_the_manifest(dataset_folder):
    text = "\n".join(describe(dataset_folder))
    manifest = Manifest.load(dataset_folder)
    for part in (
        f"full_sentences, rows of 32 tokens as uint16, fingerprint {manifest.fingerprint}",
        f"fingerprint {manifest.tokenizer.fingerprint}",
        "sequence_length=32",
        "b.jsonl",
        "train: 36 documents",
        "validation: 4 documents",
        "examples (of 344 rows)",
    ):
        assert part in text


def test_an_intact_dataset_verifies(dataset_folder):
    lines = list(verify_dataset(dataset_folder))
    assert len(lines) == 6 and lines[:2] == [
        "tokenizer: intact",
        "train-00000-of-00004.array_record: 100 rows, intact",
    ]


def test_every_damage_is_found_and_named(dataset_folder, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(dataset_folder, folder)
    first = folder / "train-00000-of-00004.array_record"
    data = bytearray(first.read_bytes())
    data[len(data) // 3] ^= 1
    first.write_bytes(data)
    (folder / "train-00002-of-00004.array_record").unlink()
    merges = folder / "tokenizer" / "tokenizer.json"
    merges.write_text(merges.read_text().replace('"Ġthe"', '"Ġtha"'))
    lines = []
    with pytest.raises(UserError) as raised:
        for line in verify_dataset(folder):
            lines.append(line)
    message = str(raised.value)
    assert "is not what was written: tokenizer: " in message
    assert "train-00000-of-00004.array_record: its sha256 is" in message
    assert "train-00002-of-00004.array_record: it is missing" in message
    # The others were looked at all the same.
    assert [line.split(":")[0] for line in lines] == [
        "train-00001-of-00004.array_record",
        "train-00003-of-00004.array_record",
        "validation-00000-of-00001.array_record",
    ]


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer_config.json"])
def test_every_file_of_the_tokenizer_is_looked_at(dataset_folder, tmp_path, name):
    folder = tmp_path / "damaged"
    shutil.copytree(dataset_folder, folder)
    path = folder / "tokenizer" / name
    content = path.read_text()
    path.write_text(content + " ")
    with pytest.raises(UserError, match=f"tokenizer: {name} is missing, or another file"):
        list(verify_dataset(folder))
    path.unlink()
    with pytest.raises(UserError, match=f"tokenizer: {name} is missing, or another file"):
        list(verify_dataset(folder))


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    for look in (describe, verify_dataset):
        with pytest.raises(UserError, match="is no prepared dataset"):
            list(look(tmp_path))
