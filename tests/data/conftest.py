"""A small corpus, a tokenizer trained on it and a dataset prepared from it, made once."""

import gzip
import json

import numpy as np
import pytest

from roberta_jax.data.byte_bpe import train_byte_bpe
from roberta_jax.data.prepare import prepare
from roberta_jax.data.prepare_settings import PrepareSettings
from roberta_jax.data.records import open_dataset

WORDS = (
    *("the", "a", "small", "old", "river", "house", "wind", "carried", "over", "under", "stone"),
    *("bridge", "and", "then", "slowly", "came", "back", "to", "me", "while", "nobody", "in"),
    *("that", "village", "knew", "why", "rain", "never", "fell", "on", "Monday", "morning's"),
    "market",
)


def make_sentences(count, seed):
    generator = np.random.Generator(np.random.Philox(key=seed))
    sentences = []
    for _ in range(count):
        chosen = generator.choice(WORDS, size=int(generator.integers(2, 24)))
        sentences.append(" ".join(chosen).capitalize() + ".")
    return sentences


@pytest.fixture(scope="session")
def documents():
    """40 documents of 1 to 30 sentences."""
    generator = np.random.Generator(np.random.Philox(key=99))
    return [make_sentences(int(generator.integers(1, 31)), seed) for seed in range(40)]


@pytest.fixture(scope="session")
def tokenizer(documents):
    return train_byte_bpe(("\n".join(document) for document in documents), 400)


@pytest.fixture(scope="session")
def tokenizer_folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="session")
def corpus_folder(documents, tmp_path_factory):
    """The documents as plain text, JSON lines and compressed JSON lines."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "a.txt").write_text("\n\n".join("\n".join(d) for d in documents[:15]) + "\n")
    lines = [json.dumps({"id": 1, "text": "\n".join(d)}) for d in documents[15:]]
    (folder / "b.jsonl").write_text("\n".join(lines[:10]) + "\n")
    with gzip.open(folder / "c.jsonl.gz", "wt") as file:
        file.write("\n".join(lines[10:]) + "\n")
    return folder


@pytest.fixture(scope="session")
def dataset_folder(corpus_folder, tokenizer_folder, tmp_path_factory):
    """A prepared dataset in several shards; tests must not change it."""
    output = tmp_path_factory.mktemp("dataset") / "dataset"
    prepare(
        inputs=[str(corpus_folder)],
        tokenizer_folder=tokenizer_folder,
        output=output,
        settings=PrepareSettings(sequence_length=32, validation_fraction=0.1, rows_per_shard=100),
    )
    return output


@pytest.fixture
def train_rows(dataset_folder):
    return open_dataset(dataset_folder, "train")
