"""--config=FILE and --config.a.b=value, with mistakes explained."""

import math

import pytest
from absl import flags as absl_flags

from roberta_jax.cli.config_flag import config_first, config_of, define_config, fields_help
from roberta_jax.cli.main import main
from roberta_jax.config import PhaseConfig, PretrainConfig, field_paths
from roberta_jax.errors import UserError
from roberta_jax.train import pretrain as pretrain_module
from roberta_jax.train.workdir import write_config
from tests.train.runs import tiny_config, write_config_file


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_config_file(tmp_path / "recipe.py", tiny_config())


def test_the_config_of_a_workdir_is_a_recipe(tmp_path):
    write_config(tmp_path, tiny_config("data"))
    config = parse(f"--config={tmp_path / 'config.json'}", "--config.train.duration=30 steps")
    assert config == tiny_config("data", train__duration="30 steps")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        parse(f"--config={tmp_path / 'config.json'}")


def parse(*arguments):
    flags, argv = absl_flags.FlagValues(), ["pretrain", *map(str, arguments)]
    define_config(flags, argv)
    flags(argv)
    return config_of(flags)


def test_a_file_gives_the_config_and_overrides_change_single_fields(recipe):
    assert parse(f"--config={recipe}") == tiny_config()
    assert parse("--config", recipe) == parse(f"-config={recipe}") == tiny_config()
    assert parse(f"-config={recipe}", "-config.seed=8") == tiny_config(seed=8)
    config = parse(
        f"--config={recipe}",
        "--config.train.duration=30 steps",
        "--config.optimizer.peak_learning_rate=1e-2",
        "--config.optimizer.clip_global_norm=inf",
        "--config.data.path=a/b",
        "--config.masking.mask_special_tokens=true",
        "--config.seed=5",
    )
    assert config == tiny_config(
        "a/b",
        train__duration="30 steps",
        optimizer__peak_learning_rate=1e-2,
        optimizer__clip_global_norm=math.inf,
        masking__mask_special_tokens=True,
        seed=5,
    )
    write_config_file(recipe, tiny_config(masking__mask_special_tokens=True))
    config = parse(f"--config={recipe}", "--noconfig.masking.mask_special_tokens")
    assert config == tiny_config()


def test_a_recipe_can_take_an_argument(tmp_path):
    path = tmp_path / "sized.py"
    path.write_text(
        "from roberta_jax.config import EncoderConfig, PretrainConfig\n\n\n"
        "def get_config(layers):\n"
        "    return PretrainConfig(encoder=EncoderConfig(num_layers=int(layers)))\n"
    )
    assert parse(f"--config={path}:7").encoder.num_layers == 7


@pytest.mark.parametrize("dashes", ["--", "-"])
def test_the_order_of_file_and_overrides_does_not_matter(recipe, dashes):
    override, file = f"{dashes}config.seed=77", f"{dashes}config"
    for argv in (
        [override, f"{file}={recipe}"],
        ["x", override, file, str(recipe), "--config.seed=77"],
    ):
        first = config_first(argv)
        assert sorted(first) == sorted(argv)
        assert " ".join(first).startswith((f"{file}={recipe}", f"{file} {recipe}"))
    said = []
    with pytest.MonkeyPatch.context() as context:
        context.setattr(
            pretrain_module, "pretrain", lambda config, *_, **__: said.append(config.seed) or 0
        )
        assert main(["pretrain", override, "--workdir=x", f"{file}={recipe}"]) == 0
    assert said == [77]


def test_an_override_without_a_file_is_refused(capsys):
    assert "--config is missing" in refusal(capsys, "--config.seed=1")


def test_the_last_of_two_files_counts(recipe, tmp_path):
    other = write_config_file(tmp_path / "other.py", tiny_config(seed=9))
    assert parse("--config=nowhere.py", f"--config={other}").seed == 9


def test_help_lists_every_field_with_its_default():
    text = fields_help()
    for name, value in field_paths(PretrainConfig()).items():
        assert f"--config.{name}={value!r}" in text


def refusal(capsys, *arguments):
    """The paragraph of a command that is refused with exit code 2."""
    assert main(["pretrain", "--workdir=new", *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("roberta-jax: ") and error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.train.duratoin=3", "Did you mean --config.train.duration"),
        ("--config.batch_size=3", "Did you mean --config.train.batch_size"),
        ("--config.phases[0].batch_size=3", "--config.phases[0].batch_size: no such field"),
        ("--config.optimizer.learning_rate=3", "--config.optimizer.peak_learning_rate"),
        ("--config.xyzzy=3", "--config.xyzzy: no such field. `roberta-jax pretrain --help`"),
        ("--config.train=3", "--config.train: no such field"),
        ("--config.train.batch_size=abc", "--config.train.batch_size=abc: invalid literal for int"),
        ("--config.train.batch_size=1.5", "--config.train.batch_size=1.5"),
        ("--config.train.duration=20", "config.train.duration is '20'; it must be a number with"),
        ("--config.train.duration=5%", "in steps, tokens or epochs"),
        ("--config.optimizer.beta1=x", "--config.optimizer.beta1=x: could not convert"),
        ("--config.masking.mask_special_tokens=maybe", "Non-boolean"),
        ("--config.train.batch_size", "Missing value for flag --config.train.batch_size"),
        ("--config.train.batch_size=0", "config.train.batch_size is 0; it must be at least 1"),
        ("--config.masking.rate=2", "config.masking.rate is 2.0; it must be in (0, 1)"),
    ],
)
def test_a_wrong_override_is_explained(recipe, tmp_path, capsys, override, message):
    assert message in refusal(capsys, f"--config={recipe}", override)
    assert not (tmp_path / "new").exists()


def test_a_file_that_is_not_there_lists_what_there_is(recipe, tmp_path, capsys):
    text = refusal(capsys, f"--config={tmp_path}/recipes.py")
    assert "no such file. There: " in text and "recipe.py." in text
    assert "No folder" in refusal(capsys, f"--config={tmp_path}/none/x.py")
    assert "no such file" in refusal(capsys, f"--config={tmp_path}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(: pass", "SyntaxError: invalid syntax (recipe.py, line 1)."),
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named"),
        ("x = 1\ny = x / 0", "ZeroDivisionError: division by zero in line 2."),
        ("def get_config():\n    return {}['a']", "KeyError: 'a' in line 2."),
        ("raise ValueError('no')", "ValueError: no in line 1."),
        ("x = 1", "has no get_config()"),
        ("def get_config():\n    return 3", "returned int, not PretrainConfig"),
        ("def get_config(size):\n    return size", "TypeError: get_config() missing 1 required"),
    ],
)
def test_a_file_with_a_mistake_is_explained(recipe, capsys, text, message):
    recipe.write_text(text + "\n")
    assert message in refusal(capsys, f"--config={recipe.name}")
    assert message in refusal(capsys, f"--config={recipe.name}", "--config.seed=3")


def test_a_mistake_that_explains_itself_is_said_as_it_is(recipe):
    recipe.write_text(
        "from roberta_jax.errors import UserError\n\n\n"
        "def get_config():\n    raise UserError('Choose a size.')\n"
    )
    with pytest.raises(UserError, match=r"^Choose a size\.$"):
        parse(f"--config={recipe}")


def test_the_fields_of_a_phase_can_be_overridden(tmp_path):
    phases = (PhaseConfig(duration="90%", batch_size=8), PhaseConfig(duration="10%"))
    config = tiny_config("data", phases=phases)
    recipe = write_config_file(tmp_path / "phases.py", config)
    found = parse(f"--config={recipe}", "--config.phases[0].batch_size=16")
    assert [phase.batch_size for phase in found.phases] == [16, 0]
    assert found.phases[1] == phases[1]
