import collections
import gzip
import json
import random

import pytest

from roberta_jax.data import tokenizer_folder as module
from roberta_jax.data.tokenizer_folder import (
    TrainingSettings,
    import_sentencepiece_folder,
    import_tokenizer_folder,
    load_tokenizer,
    train_tokenizer_folder,
)
from roberta_jax.errors import UserError
from tests.data.test_sentencepiece_model import train as train_sentencepiece


def train(corpus_folder, output, said=None, overwrite=False, **settings):
    return train_tokenizer_folder(
        inputs=[str(corpus_folder)],
        output=output,
        settings=TrainingSettings(**{"vocab_size": 300, **settings}),
        overwrite=overwrite,
        say=(said if said is not None else []).append,
    )


def test_a_corpus_becomes_a_folder(corpus_folder, tmp_path):
    said = []
    tokenizer = train(corpus_folder, tmp_path / "tokenizer", said)
    assert load_tokenizer(tmp_path / "tokenizer").fingerprint == tokenizer.fingerprint
    assert said == [
        f"300 entries, fingerprint {tokenizer.fingerprint}, written to {tmp_path / 'tokenizer'}"
    ]


def test_a_second_run_has_nothing_to_do(corpus_folder, tmp_path):
    output, said = tmp_path / "tokenizer", []
    train(corpus_folder, output)
    before = (output / "vocab.json").stat().st_mtime_ns
    train(corpus_folder, output, said)
    assert "nothing to do" in said[0]
    assert (output / "vocab.json").stat().st_mtime_ns == before


def test_another_output_is_only_replaced_when_asked(corpus_folder, tmp_path):
    output = tmp_path / "tokenizer"
    train(corpus_folder, output)
    with pytest.raises(UserError, match="--overwrite"):
        train(corpus_folder, output, vocab_size=310)
    assert load_tokenizer(output).vocab_size == 300
    train(corpus_folder, output, vocab_size=310, overwrite=True)
    assert load_tokenizer(output).vocab_size == 310


def write_halves(path, opener=open):
    """Two kinds of words, in the first and in the second half; 3 MB."""
    text = ("\n".join([" ".join(["alpha beta gamma"] * 20)] * 4) + "\n\n") * 1200
    text += ("\n".join([" ".join(["delta epsilon zeta"] * 20)] * 4) + "\n\n") * 1100
    with opener(path, "wt") as file:
        file.write(text)


@pytest.fixture
def sampled(tmp_path, monkeypatch):
    """Takes a sample of a folder: the texts; `sampled.stored_bytes`: what was read for it."""
    monkeypatch.setattr(module, "_save", lambda *_: None)

    def take(folder, megabytes):
        seen, counts = [], []
        monkeypatch.setattr(module, "train_byte_bpe", lambda texts, _: seen.extend(texts))
        real = module.ReadCounts

        def counted():
            counts.append(real())
            return counts[-1]

        monkeypatch.setattr(module, "ReadCounts", counted)
        train(folder, tmp_path / "out", sample_megabytes=megabytes)
        monkeypatch.setattr(module, "ReadCounts", real)
        take.stored_bytes = sum(count.stored_bytes for count in counts)
        return seen

    return take


def test_a_large_corpus_is_sampled_evenly(tmp_path, sampled):
    write_halves(tmp_path / "corpus.txt")
    for megabytes, share in ((1, 1 / 3), (2, 2 / 3), (3, 1), (512, 1)):
        words = " ".join(sampled(tmp_path / "corpus.txt", megabytes)).split()
        for word, documents in (("alpha", 1200), ("epsilon", 1100)):
            assert words.count(word) == pytest.approx(80 * documents * share, rel=0.1)


def test_the_sample_is_even_over_files_of_all_types(tmp_path, sampled):
    """Compressed text counts as the text that it is, and 30 million characters become one."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    generator = random.Random(3)
    for number in range(10):
        words = [f"w{number}x{generator.randrange(10**6)}" for _ in range(50_000)]
        documents = [" ".join(words[i : i + 100]) for i in range(0, 50_000, 100)]
        opener = gzip.open if number % 2 else open
        suffix = "jsonl.gz" if number % 2 else "jsonl"
        with opener(folder / f"{number}.{suffix}", "wt") as file:
            file.writelines(json.dumps({"id": "x" * 99, "text": d}) + "\n" for d in documents)
    texts = sampled(folder, 1)
    assert texts == sampled(folder, 1)
    assert sum(map(len, texts)) == pytest.approx(10**6, rel=0.03)
    shares = collections.Counter(text[: text.index("x")] for text in texts)
    assert len(shares) == 10 and max(shares.values()) < 1.1 * min(shares.values())


def test_a_large_corpus_is_read_once(tmp_path, sampled, monkeypatch):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(4):
        write_halves(folder / f"{number}.txt")
    monkeypatch.setattr(module, "PROBED_BYTES", 1 << 19)
    monkeypatch.setattr(module, "PROBED_FILES", 2)
    total = sum(path.stat().st_size for path in folder.iterdir())
    texts = sampled(folder, 2)
    assert sum(map(len, texts)) == pytest.approx(2 * 10**6, rel=0.03)
    # Of two files, blocks of one MiB were looked at before.
    assert sampled.stored_bytes < total + 2 * 2.2 * 2**20


def test_a_wrong_first_look_is_set_right(tmp_path, sampled, monkeypatch):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(12):
        lines = "\n".join([" ".join([f"file{number} beta gamma"] * 20)] * 4)
        (folder / f"{number:02}.txt").write_text((lines + "\n\n") * 2000)
    # As if the text were half of what it is: the first file gives too much, the later ones less.
    monkeypatch.setattr(module, "_probe", lambda file, _: (file.bytes // 2, file.bytes))
    texts = sampled(folder, 10)
    assert sum(map(len, texts)) == pytest.approx(10**7, rel=0.05)
    files = collections.Counter(text.split(" ")[0] for text in texts)
    assert len(files) == 12 and max(files.values()) < 1300 and min(files.values()) > 200


def test_a_kind_has_its_settings(corpus_folder, tmp_path):
    said = []
    output = tmp_path / "char"
    settings = {"kind": "char_bpe", "normalization": "nmt_nfkc_cf"}
    tokenizer = train(corpus_folder, output, said, vocab_size=150, **settings)
    assert load_tokenizer(output).fingerprint == tokenizer.fingerprint
    assert tokenizer.vocab_size == 150 and tokenizer.encode("THE River") == tokenizer.encode(
        "the river"
    )
    written = json.loads((output / "training.json").read_text())["settings"]
    assert written["normalization"] == "nmt_nfkc_cf" and written["kind"] == "char_bpe"
    train(corpus_folder, output, said, vocab_size=150, **settings)
    assert "nothing to do" in said[-1]
    with pytest.raises(UserError, match="--overwrite"):
        train(corpus_folder, output, vocab_size=150, kind="char_bpe", normalization="nmt_nfkc")
    # A folder of an earlier version knows of no normalization.
    train(corpus_folder, tmp_path / "byte")
    written = json.loads((tmp_path / "byte" / "training.json").read_text())["settings"]
    assert "normalization" not in written


def test_a_failing_run_leaves_nothing(corpus_folder, tmp_path):
    with pytest.raises(UserError, match="at most"):
        train(corpus_folder, tmp_path / "tokenizer", vocab_size=50_000)
    with pytest.raises(UserError, match="sample_megabytes is 0"):
        train(corpus_folder, tmp_path / "tokenizer", sample_megabytes=0)
    with pytest.raises(UserError, match="must be one of byte_bpe"):
        train(corpus_folder, tmp_path / "tokenizer", kind="word")
    with pytest.raises(UserError, match="only char_bpe has a normalization"):
        train(corpus_folder, tmp_path / "tokenizer", normalization="identity")
    with pytest.raises(UserError, match="only char_bpe has a normalization"):
        train(corpus_folder, tmp_path / "tokenizer", kind="char_bpe")
    with pytest.raises(UserError, match="entries only"):
        train(
            corpus_folder,
            tmp_path / "tokenizer",
            kind="char_bpe",
            vocab_size=30_000,
            normalization="identity",
        )
    assert list(tmp_path.iterdir()) == []


def test_an_imported_vocabulary_becomes_a_folder(tokenizer, tokenizer_folder, tmp_path):
    said = []
    for _ in range(2):
        import_tokenizer_folder(
            vocab_json=tokenizer_folder / "vocab.json",
            merges_txt=tokenizer_folder / "merges.txt",
            output=tmp_path / "imported",
            say=said.append,
        )
    assert load_tokenizer(tmp_path / "imported").fingerprint == tokenizer.fingerprint
    assert "written to" in said[0] and "nothing to do" in said[1]


def test_an_imported_sentencepiece_model_becomes_a_folder(tmp_path):
    train_sentencepiece(tmp_path / "x.model")
    said = []
    for _ in range(2):
        found = import_sentencepiece_folder(
            model=tmp_path / "x.model", output=tmp_path / "imported", say=said.append
        )
    assert load_tokenizer(tmp_path / "imported").fingerprint == found.fingerprint
    assert "written to" in said[0] and "nothing to do" in said[1]
