import json

import pytest
from absl import flags as absl_flags

from roberta_jax.cli import tokenizer
from roberta_jax.data.tokenizer_folder import load_tokenizer
from roberta_jax.errors import UserError
from tests.data.test_sentencepiece_model import train as train_sentencepiece


def run(*arguments):
    flags = absl_flags.FlagValues()
    tokenizer.define_flags(flags)
    rest = flags(["tokenizer", *map(str, arguments)])
    return tokenizer.run(flags, rest[1:])


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("The old river came back under the old bridge.\n" * 5)
    return path


def test_text_becomes_a_tokenizer_and_that_one_is_imported(text, tmp_path, capsys):
    output = tmp_path / "tokenizer"
    assert run(f"--input={text}", "--vocab_size=270", f"--output={output}") == 0
    assert load_tokenizer(output).vocab_size == 270
    assert "270 entries" in capsys.readouterr().out
    vocabulary = (f"--vocab_json={output}/vocab.json", f"--merges_txt={output}/merges.txt")
    assert run(*vocabulary, f"--output={tmp_path / 'imported'}") == 0
    assert run(*vocabulary, f"--output={tmp_path / 'imported'}") == 0
    assert "nothing to do" in capsys.readouterr().out


def test_the_kind_decides_what_is_not_given(text, tmp_path, capsys):
    output = tmp_path / "tokenizer"
    assert run(f"--input={text}", "--kind=char_bpe", "--vocab_size=30", f"--output={output}") == 0
    assert "30 entries" in capsys.readouterr().out
    settings = json.loads((output / "training.json").read_text())["settings"]
    assert (settings["kind"], settings["normalization"]) == ("char_bpe", "nmt_nfkc_cf")
    cased = (f"--input={text}", "--kind=char_bpe", "--vocab_size=30", "--normalization=nmt_nfkc")
    assert run(*cased, f"--output={tmp_path / 'cased'}") == 0
    ids = [load_tokenizer(folder).encode("The") for folder in (output, tmp_path / "cased")]
    assert ids[0] == load_tokenizer(output).encode("the") and ids[0] != ids[1]


def test_a_sentencepiece_model_is_imported(tmp_path, capsys):
    train_sentencepiece(tmp_path / "x.model")
    model = f"--sentencepiece_model={tmp_path / 'x.model'}"
    assert run(model, f"--output={tmp_path / 'imported'}") == 0
    assert load_tokenizer(tmp_path / "imported").kind == "unigram"
    assert run(model, f"--output={tmp_path / 'imported'}") == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input=text.txt"], "--output is missing"),
        (["text.txt", "--output=x"], "no positional arguments"),
        (["--output=x"], "No input is given"),
        (["--output=x", "--vocab_json=vocab.json"], "together with --merges_txt"),
        (["--output=x", "--vocab_json=v", "--merges_txt=m", "--input=t"], "Give --input to train"),
        (["--output=x", "--vocab_json=v", "--merges_txt=m"], "v cannot be read"),
        (["--output=x", "--input=text.txt"], "vocab_size is 50265"),
        (["--output=x", "--input=text.txt", "--kind=char_bpe"], "vocab_size is 30000"),
        (["--output=x", "--input=text.txt", "--vocab_size=0"], "vocab_size is 0"),
        (["--output=x", "--input=text.txt", "--normalization=nmt_nfkc"], "only char_bpe has"),
        (["--output=x", "--sentencepiece_model=m", "--input=t"], "or to import"),
        (["--output=x", "--sentencepiece_model=m"], "model m cannot be read"),
    ],
)
def test_unusable_flags_are_refused(text, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        run(*arguments)
    assert not (tmp_path / "x").exists()
