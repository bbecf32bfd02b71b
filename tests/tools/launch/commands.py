"""`roberta-jax` commands as scripts and manifests have them, read by the parser of the verb."""

import importlib
import pathlib

from absl import flags as absl_flags

from roberta_jax.cli.config_flag import config_first, config_of
from roberta_jax.cli.main import VERBS

ROOT = pathlib.Path(__file__).parents[3]


def module_of(verb):
    return importlib.import_module(f"roberta_jax.cli.{verb.replace('-', '_')}")


def parsed(words):
    """The flags of `roberta-jax WORDS`, and its positional arguments.

    The working directory must be that of the repository. Raises what the program would.
    """
    verb, *rest = words
    assert verb in VERBS, f"{verb} is not a verb"
    module, flags = module_of(verb), absl_flags.FlagValues()
    if getattr(module, "TAKES_CONFIG", False):
        rest = config_first(rest)
        module.define_flags(flags, [verb, *rest])
    else:
        module.define_flags(flags)
    _, *positional = flags([verb, *rest])
    return flags, positional


def checked_pretrain(words):
    """The flags of a complete `pretrain` command whose config is valid."""
    assert words[0] == "pretrain"
    flags, positional = parsed(words)
    assert not positional and flags.workdir
    config = config_of(flags)
    config.validate()
    assert config.data.path
    return flags
