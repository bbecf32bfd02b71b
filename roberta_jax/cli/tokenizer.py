"""Trains a tokenizer on text, or imports a published vocabulary, and writes its folder.

roberta-jax tokenizer --input='books/*.jsonl.gz' --vocab_size=16384 --output=tokenizer
roberta-jax tokenizer --input='books/*.jsonl.gz' --kind=char_bpe --output=tokenizer
roberta-jax tokenizer --vocab_json=vocab.json --merges_txt=merges.txt --output=tokenizer
roberta-jax tokenizer --sentencepiece_model=sentencepiece.bpe.model --output=tokenizer

The input is plain text (.txt, a blank line between documents) or JSON lines (.jsonl, .json), each
also as .gz, .zst or .xz, or Parquet. The folder opens with transformers' AutoTokenizer too.
"""

from typing import Any

from absl import flags as absl_flags

from roberta_jax.data import tokenizer_folder
from roberta_jax.data.bad_text import BAD_TEXT_RULES
from roberta_jax.data.char_bpe import NORMALIZATIONS
from roberta_jax.errors import UserError

SUMMARY = "train or import a tokenizer"


def define_flags(flags: absl_flags.FlagValues) -> None:
    """Defines the flags of this verb in `flags`."""
    absl_flags.DEFINE_multi_string(
        "input",
        [],
        "A file, folder, glob or tfds:NAME/CONFIG:SPLIT; may be repeated.",
        flag_values=flags,
    )
    absl_flags.DEFINE_enum(
        "kind",
        "byte_bpe",
        tokenizer_folder.KINDS,
        "How text becomes tokens: RoBERTa's BPE of bytes, or BERT's of characters.",
        flag_values=flags,
    )
    sizes = ", ".join(f"{size} for {kind}" for kind, size in tokenizer_folder.VOCAB_SIZES.items())
    absl_flags.DEFINE_integer(
        "vocab_size",
        None,
        f"Entries, special tokens included; unless given, {sizes}.",
        flag_values=flags,
    )
    absl_flags.DEFINE_enum(
        "normalization",
        None,
        NORMALIZATIONS,
        "char_bpe: sentencepiece's rule for cleaning the text; unless given, "
        f"{NORMALIZATIONS[0]}, which makes it lower case.",
        flag_values=flags,
    )
    absl_flags.DEFINE_integer(
        "sample_megabytes",
        512,
        "Text to learn from; a larger corpus is sampled evenly.",
        flag_values=flags,
    )
    absl_flags.DEFINE_string(
        "text_field",
        "text",
        "Key of the text in JSON lines, column in Parquet, feature in TFDS.",
        flag_values=flags,
    )
    absl_flags.DEFINE_enum(
        "on_bad_text",
        "error",
        BAD_TEXT_RULES,
        "What happens to text that is not UTF-8.",
        flag_values=flags,
    )
    absl_flags.DEFINE_string(
        "vocab_json", "", "Import: vocabulary in roberta-base's layout.", flag_values=flags
    )
    absl_flags.DEFINE_string("merges_txt", "", "Import: its merge rules.", flag_values=flags)
    absl_flags.DEFINE_string(
        "sentencepiece_model",
        "",
        "Import: a model of sentencepiece, such as XLM-RoBERTa's.",
        flag_values=flags,
    )
    absl_flags.DEFINE_string("output", "", "Folder to write.", flag_values=flags)
    absl_flags.DEFINE_bool(
        "overwrite", False, "Replace an output made from something else.", flag_values=flags
    )


def run(flags: Any, arguments: list[str]) -> int:
    """Runs the verb; returns the exit code."""
    if arguments:
        raise UserError(
            f"tokenizer takes no positional arguments, got {arguments}; text is given by --input."
        )
    if not flags.output:
        raise UserError("--output is missing: the folder that the tokenizer is written to.")
    given = [bool(flags.input), bool(flags.vocab_json), bool(flags.sentencepiece_model)]
    if bool(flags.vocab_json) != bool(flags.merges_txt) or sum(given) > 1:
        raise UserError(
            "Give --input to train, or to import --vocab_json together with --merges_txt, or "
            "--sentencepiece_model."
        )
    if flags.vocab_json:
        tokenizer_folder.import_tokenizer_folder(
            vocab_json=flags.vocab_json,
            merges_txt=flags.merges_txt,
            output=flags.output,
            overwrite=flags.overwrite,
        )
        return 0
    if flags.sentencepiece_model:
        tokenizer_folder.import_sentencepiece_folder(
            model=flags.sentencepiece_model, output=flags.output, overwrite=flags.overwrite
        )
        return 0
    needs_rule = flags.kind == "char_bpe" and flags.normalization is None
    settings = tokenizer_folder.TrainingSettings(
        kind=flags.kind,
        vocab_size=(
            tokenizer_folder.VOCAB_SIZES[flags.kind]
            if flags.vocab_size is None
            else flags.vocab_size
        ),
        normalization=NORMALIZATIONS[0] if needs_rule else flags.normalization,
        sample_megabytes=flags.sample_megabytes,
        text_field=flags.text_field,
        on_bad_text=flags.on_bad_text,
    )
    tokenizer_folder.train_tokenizer_folder(
        inputs=flags.input, output=flags.output, settings=settings, overwrite=flags.overwrite
    )
    return 0
