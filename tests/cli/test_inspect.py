import pytest

from roberta_jax.cli.main import main
from tests.train.runs import make_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data"))


def test_a_dataset_is_shown(dataset, capsys):
    assert main(["inspect", str(dataset), "--rows=2", "--seed=1", "--epoch=2"]) == 0
    out = capsys.readouterr().out
    assert "full_sentences, rows of 32 tokens" in out
    assert out.count("train row") == 2 and "<mask>→" in out
    assert main(["inspect", str(dataset), "--rows=1", "--split=validation"]) == 0
    assert "validation row 0:" in capsys.readouterr().out
    assert main(["inspect", str(dataset), "--rows=0"]) == 0
    assert "row 0" not in capsys.readouterr().out


def test_a_dataset_is_verified(dataset, capsys):
    assert main(["inspect", str(dataset), "--verify"]) == 0
    assert "train-00000-of-" in (out := capsys.readouterr().out) and "intact" in out


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["missing"], ["missing", "--verify"]])
def test_what_is_no_dataset_is_one_paragraph(arguments, capsys):
    assert main(["inspect", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "roberta-jax prepare" in line
