import pytest

from roberta_jax.data import tokenizer_folder as module
from roberta_jax.data.tokenizer_folder import (
    TrainingSettings,
    import_tokenizer_folder,
    load_tokenizer,
    train_tokenizer_folder,
)
from roberta_jax.errors import UserError


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


def test_a_large_corpus_is_sampled_evenly(tmp_path, monkeypatch):
    # Two kinds of words, in the first and in the second half; 3 MB, of which 1 is taken.
    text = ("\n".join(["alpha beta gamma"] * 80) + "\n\n") * 1200
    text += ("\n".join(["delta epsilon zeta"] * 80) + "\n\n") * 1100
    (tmp_path / "corpus.txt").write_text(text)
    seen = []
    monkeypatch.setattr(module, "train_byte_bpe", lambda texts, _: seen.extend(texts))
    monkeypatch.setattr(module, "_save", lambda *_: None)
    for megabytes, share in ((1, 1 / 3), (2, 2 / 3), (3, 1), (512, 1)):
        seen.clear()
        train(tmp_path / "corpus.txt", tmp_path / "out", sample_megabytes=megabytes)
        words = " ".join(seen).split()
        for word, documents in (("alpha", 1200), ("epsilon", 1100)):
            assert words.count(word) == pytest.approx(80 * documents * share, rel=0.1)


def test_a_failing_run_leaves_nothing(corpus_folder, tmp_path):
    with pytest.raises(UserError, match="at most"):
        train(corpus_folder, tmp_path / "tokenizer", vocab_size=50_000)
    with pytest.raises(UserError, match="sample_megabytes is 0"):
        train(corpus_folder, tmp_path / "tokenizer", sample_megabytes=0)
    with pytest.raises(UserError, match="must be one of byte_bpe"):
        train(corpus_folder, tmp_path / "tokenizer", kind="word")
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
