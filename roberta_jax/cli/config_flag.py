"""`--config=FILE` and `--config.a.b=value`, by ml_collections, with mistakes explained."""

import difflib
import runpy
import traceback
from pathlib import Path
from typing import Any, TypeVar

from absl import flags as absl_flags

from roberta_jax.config import FinetuneConfig, PhaseConfig, PretrainConfig, field_paths, set_field
from roberta_jax.errors import UserError
from roberta_jax.train.workdir import CONFIG_FILE, read_config

_MISSING = "--config is missing: the recipe, for example --config={}."
_EXAMPLES = {
    PretrainConfig: "configs/pretrain/tiny.py",
    FinetuneConfig: "configs/finetune/glue.py:sst2",
}
Config = TypeVar("Config", PretrainConfig, FinetuneConfig)


def define_config(
    flags: absl_flags.FlagValues, argv: list[str], kind: type = PretrainConfig
) -> None:
    """Defines --config and the overrides that occur in `argv`.

    Args:
      flags: where they are defined.
      argv: the verb and its arguments.
      kind: of the config, PretrainConfig or FinetuneConfig.

    Raises:
      UserError: no such file, one that does not return a config, or an override of a field that
        does not exist.
    """
    from ml_collections import config_flags

    explanation = "Python file with get_config(), a recipe"
    explanation += "; or the config.json of a workdir." if kind is PretrainConfig else "."
    # absl takes one dash for two.
    argv = [f"-{argument}" if argument.startswith("-config") else argument for argument in argv]
    path = _value_of("--config", argv)
    overrides = any(argument.startswith("--config.") for argument in argv)
    if not path and overrides and kind is PretrainConfig:
        raise UserError(_MISSING.format(_EXAMPLES[kind]))
    if not path and not overrides:
        absl_flags.DEFINE_string("config", None, explanation, flag_values=flags)
        return
    if path:
        _check_file(path)
    config = _load(path, kind) if path else kind()  # A table of the user's has no recipe.
    _check_overrides(argv, config)
    # Loaded here, and not by DEFINE_config_file, which answers a mistake in the file with a
    # traceback and imports it by what Python has deprecated.
    config_flags.DEFINE_config_dataclass(
        "config",
        config,
        explanation,
        flag_values=flags,
        sys_argv=argv,
        parse_fn=lambda path: config,
    )
    flags["config"].given_path = path  # type: ignore[attr-defined]  # For `config_for`.


def config_first(argv: list[str]) -> list[str]:
    """`argv` with --config before the overrides of its fields, as ml_collections wants it."""
    names = ("--config=", "-config=")
    taken = [
        number
        for number, argument in enumerate(argv)
        if argument.startswith(names)
        or argument in ("--config", "-config")
        or (number and argv[number - 1] in ("--config", "-config"))
    ]
    others = [argument for number, argument in enumerate(argv) if number not in taken]
    return [argv[number] for number in taken] + others


def config_of(flags: Any, kind: type[Config] = PretrainConfig) -> Config:  # type: ignore[assignment]
    """The config that was given; UserError if there is none."""
    config = flags.config
    if config is None:
        raise UserError(_MISSING.format(_EXAMPLES[kind]))
    assert isinstance(config, kind), "define_config has looked"
    return config


def config_for(flags: Any, argument: str, kind: type[Config]) -> Config:
    """The config that the same file gives for another argument, with the overrides that were given.

    For example that of `glue.py:rte` where `glue.py:all` was asked for.
    """
    flag = flags["config"]
    config: Config = _load(f"{flag.given_path.split(':')[0]}:{argument}", kind)
    for name, value in flag.override_values.items():
        set_field(config, name, value)
    return config


def finetuning_help() -> str:
    """Every field of a fine-tuning config with its default."""
    lines = [
        f"  --config.{name}={value!r}" for name, value in field_paths(FinetuneConfig()).items()
    ]
    return "\n".join(["Fields of the config (a recipe sets its own):", *lines])


def fields_help() -> str:
    """Every field of a pretraining config with its default, and of a phase."""
    lines = [
        f"  --config.{name}={value!r}" for name, value in field_paths(PretrainConfig()).items()
    ] + [
        f"  --config.phases[0].{name}={value!r}"
        for name, value in field_paths(PhaseConfig()).items()
    ]
    return "\n".join(
        [
            "Fields of the config (defaults of the class; a recipe sets its own; phases are there "
            "where a recipe has them):",
            *lines,
        ]
    )


def _value_of(flag: str, argv: list[str]) -> str:
    value = ""
    for number, argument in enumerate(argv):
        if argument.startswith(f"{flag}="):
            value = argument.split("=", 1)[1]
        if argument == flag and number + 1 < len(argv):
            value = argv[number + 1]
    return value  # The last one, as absl has it.


def _check_file(path: str) -> None:
    file = Path(path.split(":")[0])
    if not file.is_file():
        folder = file.parent
        there = ", ".join(sorted(map(str, folder.glob("*.py")))) if folder.is_dir() else ""
        raise UserError(
            f"--config={path}: no such file. "
            + (f"There: {there}." if there else f"No folder {folder}.")
        )


def _load(path: str, kind: type) -> Any:
    """What get_config() of the file returns; an argument for it may follow the name and a colon.

    Or the content of a workdir's config.json.
    """
    if Path(path).name == CONFIG_FILE:
        if kind is PretrainConfig:
            return read_config(Path(path).parent)
        raise UserError(f"--config={path} is not a recipe. One for this verb is {_EXAMPLES[kind]}.")
    file, *argument = path.split(":", 1)
    try:
        names = runpy.run_path(file)
        if "get_config" not in names:
            raise UserError(
                f"--config={path} has no get_config(); a recipe returns its config there."
            )
        config = names["get_config"](*argument)
    except UserError:
        raise
    except Exception as error:  # Whatever a Python file can raise.
        lines = [
            f" in line {frame.lineno}"
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == file
        ]
        raise UserError(
            f"--config={path} cannot be loaded: {type(error).__name__}: {error}"
            f"{''.join(lines[-1:])}."
        ) from error
    if not isinstance(config, kind):
        raise UserError(
            f"get_config() of --config={path} returned {type(config).__name__}, not "
            f"{kind.__name__}. A recipe for this verb is {_EXAMPLES[kind]}."
        )
    return config


def _check_overrides(argv: list[str], config: Any) -> None:
    known = list(field_paths(config))
    for argument in argv:
        if argument.startswith("--config."):
            name = argument.split("=", 1)[0].removeprefix("--config.")
            if name not in known:
                last = {field.rsplit(".", 1)[-1]: field for field in known}
                close = difflib.get_close_matches(name, known, n=3) or [
                    last[match]
                    for match in difflib.get_close_matches(name.rsplit(".", 1)[-1], last, n=3)
                ]
                hint = (
                    f" Did you mean {', '.join('--config.' + match for match in close)}?"
                    if close
                    else ""
                )
                raise UserError(
                    f"--config.{name}: no such field.{hint} `roberta-jax {argv[0]} --help` lists "
                    "them all."
                )
