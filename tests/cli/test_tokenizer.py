import pytest
from absl import flags as absl_flags

from roberta_jax.cli import tokenizer
from roberta_jax.data.tokenizer_folder import load_tokenizer
from roberta_jax.errors import UserError


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
    ],
)
def test_unusable_flags_are_refused(text, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        run(*arguments)
    assert not (tmp_path / "x").exists()
