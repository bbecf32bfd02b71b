"""Makes a workdir of a model that another system wrote.

roberta-jax import --model=roberta-base --output=runs/roberta-base
roberta-jax fill-mask --workdir=runs/roberta-base 'Paris is the <mask> of France.'

The model is a local folder: of Hugging Face (config.json, model.safetensors or its shards, the
tokenizer's files; RoBERTa, XLM-RoBERTa or BERT), or of fairseq (model.pt, dict.txt, vocab.bpe,
encoder.json). With `pretrain --init_from`, pretraining goes on from it.
"""

from typing import Any

from absl import flags as absl_flags

from roberta_jax.errors import UserError

SUMMARY = "a Hugging Face or fairseq model becomes a workdir"


def define_flags(flags: absl_flags.FlagValues) -> None:
    """Defines the flags of this verb in `flags`."""
    absl_flags.DEFINE_string("model", "", "Folder of the model.", flag_values=flags)
    absl_flags.DEFINE_string("output", "", "Workdir to write.", flag_values=flags)
    absl_flags.DEFINE_bool("overwrite", False, "Replace an earlier import.", flag_values=flags)


def run(flags: Any, arguments: list[str]) -> int:
    """Runs the verb; returns the exit code."""
    if arguments:
        raise UserError(f"import takes no positional arguments, got {arguments}.")
    if not flags.model:
        raise UserError("--model is missing: a Hugging Face or fairseq folder.")
    if not flags.output:
        raise UserError("--output is missing: the workdir that is written.")
    from roberta_jax.interop.import_model import import_model

    import_model(flags.model, flags.output, overwrite=flags.overwrite)
    return 0
