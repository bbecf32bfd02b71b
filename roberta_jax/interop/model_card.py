"""`README.md` of an exported model, written from what the run left behind."""

import importlib.metadata
import json
import math
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from roberta_jax.config import EncoderConfig, PhaseConfig, PretrainConfig
from roberta_jax.data.manifest import Manifest
from roberta_jax.encoder.model import count_params
from roberta_jax.errors import UserError
from roberta_jax.interop.names import has_next_sentence
from roberta_jax.train.metrics import read_lines
from roberta_jax.train.workdir import METRICS_FILE
from roberta_jax.version import __version__

CARD_NAME = "README.md"
CARD_TAG = "- roberta_jax"  # A line of the front matter.
_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "tokenizers")


def is_our_card(path: pathlib.Path) -> bool:
    """Whether `model_card` wrote a file."""
    try:
        return CARD_TAG in path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False


def model_card(
    config: PretrainConfig,
    workdir: pathlib.Path,
    record: Mapping[str, Any],
    *,
    name: str,
    step: int,
    family: str,
    mask_token: str,
    origin: str = "",
) -> str:
    """Markdown with the front matter that model hubs read.

    Args:
      config: of the run.
      workdir: its folder; the figures are those of its metrics.
      record: what is stored beside the weights.
      name: what the model is called.
      step: updates of the exported checkpoint.
      family: architecture in transformers.
      mask_token: how a mask is spelled.
      origin: of an imported model, where it comes from; it has no run here.
    """
    lines = [line for line in read_lines(workdir / METRICS_FILE) if line["step"] <= step]
    sections = [
        _front_matter(family, mask_token),
        f"# {name}",
        _introduction(config, record, lines, step, origin),
        _usage(mask_token),
        "## Architecture\n\n" + card_table(architecture_rows(config.encoder, family)),
    ]
    if not origin:
        sections += [
            "## Training data\n\n" + _data(config, record),
            "## Training\n\n" + card_table(_recipe(config, step)),
            "## Evaluation\n\n" + _evaluation(lines),
        ]
    sections += [
        "## Limits\n\nA masked language model repeats what its text says, errors and prejudices "
        "included. It was not tested here for any use"
        + ("." if origin else " beyond the figures above."),
        "## Versions\n\n" + card_versions(),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(family: str, mask_token: str) -> str:
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "pipeline_tag: fill-mask",
            f"mask_token: {json.dumps(mask_token, ensure_ascii=False)}",
            "tags:",
            f"- {family}",
            "- masked-lm",
            CARD_TAG,
            "---",
        ]
    )


def _introduction(
    config: PretrainConfig,
    record: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
    step: int,
    origin: str,
) -> str:
    size = f"{count_params(config.encoder) / 1e6:,.1f}M parameters"
    if origin:
        return f"A masked language model of {size}, imported by roberta_jax from {origin}."
    begun = [line["message"] for line in lines if line.get("event") == "started"]
    return (
        f"A masked language model of {size}, pretrained from raw text with roberta_jax: "
        f"{step:,} updates, {record['examples_seen']:,} rows of {_lengths(config)} tokens. "
        + (_begun_with(begun[-1]) if begun else "It began with random weights.")
    )


def _lengths(config: PretrainConfig) -> str:
    """The lengths of rows, each once, in the order of the phases."""
    return " and ".join(str(length) for length in dict.fromkeys(config.sequence_lengths()))


def _begun_with(message: str) -> str:
    """The event of a run that began with the weights of another, without the path of its folder."""
    folder, _, number = message.rpartition(", step ")
    name = pathlib.Path(folder.removeprefix("starting from the weights of ")).name
    return f"It began with the weights of {name}, step {number}."


def _usage(mask_token: str) -> str:
    return (
        "```python\nfrom transformers import pipeline\n\n"
        'fill_mask = pipeline("fill-mask", model="THIS_FOLDER")\n'
        f'fill_mask("He opened the {mask_token} and went out.")\n```'
    )


def architecture_rows(encoder: EncoderConfig, family: str) -> dict[str, Any]:
    """What a card's table says of the encoder, of this family of transformers."""
    rows = {
        "layers": encoder.num_layers,
        "hidden size": encoder.hidden_size,
        "attention heads": encoder.num_heads,
        "MLP size": encoder.mlp_size,
        "vocabulary": f"{encoder.vocab_size:,}",
        "longest text, in tokens": encoder.max_positions,
    }
    if encoder.next_sentence_head:
        kept = has_next_sentence(family)
        left_out = f"left out: transformers has no {family} with one"
        rows["next-sentence head"] = "included" if kept else left_out
    return rows


def _data(config: PretrainConfig, record: Mapping[str, Any]) -> str:
    fingerprint = config.data.tokenizer_fingerprint
    # Without the places on this machine; phases may have datasets of their own.
    paths = [config.data.path, *(phase.path for phase in config.phases)]
    places = dict.fromkeys(place for path in paths for place in path.split(",") if place)
    names = ", ".join(pathlib.Path(place).name for place in places)
    name = f"{names}, fingerprint {record['data_fingerprint']}"
    try:
        manifest = Manifest.load(pathlib.Path(config.data.path))
    except UserError:
        manifest = None
    # The dataset need not be on this machine any more, and another one may be in its place.
    if manifest is None or manifest.fingerprint != record["data_fingerprint"]:
        return card_table({"dataset": name, "tokenizer": f"fingerprint {fingerprint}"})
    train = manifest.splits["train"]
    return card_table(
        {
            "dataset": name,
            "documents": f"{train.documents:,}",
            "sentences": f"{train.sentences:,}",
            "tokens": f"{train.tokens:,}",
            "rows": f"{train.rows:,} of {manifest.sequence_length} tokens, {manifest.format}",
            "tokenizer": f"{manifest.tokenizer.kind}, fingerprint {fingerprint}",
        }
    )


def _recipe(config: PretrainConfig, step: int) -> dict[str, Any]:
    optimizer, encoder, train = config.optimizer, config.encoder, config.train
    whole = f" of {train.duration}" if train.duration else f" of {len(config.phases)} phases"
    rows: dict[str, Any] = {"updates": f"{step:,}, of a run{whole}"}
    for number, phase in enumerate(config.phases, start=1):
        rows[f"phase {number}"] = _phase(config, phase)
    if not config.phases:
        rows["batch"] = _batch(config, PhaseConfig())
    rows |= {
        "objective": _objective(config),
        "masking": _masking(config),
        "optimizer": _optimizer(config),
        "learning rate": f"{optimizer.peak_learning_rate:g}, {_schedule(config)}",
        "gradient clip": "none"
        if math.isinf(optimizer.clip_global_norm)
        else f"{optimizer.clip_global_norm:g}",
        "dropout": f"embedding {encoder.embedding_dropout_rate:g}, sublayers "
        f"{encoder.dropout_rate:g}, attention {encoder.attention_dropout_rate:g}, activation "
        f"{encoder.activation_dropout_rate:g}",
        "compute type": encoder.compute_dtype,
        "seed": config.seed,
    }
    if optimizer.average_decay:
        rows["weights"] = f"exponential average over the updates, decay {optimizer.average_decay:g}"
    return rows


def _batch(config: PretrainConfig, phase: PhaseConfig) -> str:
    """What an update sees in a phase; what it does not say is as in the rest of the config."""
    length = phase.sequence_length or config.data.sequence_length
    return f"{phase.batch_size or config.train.batch_size:,} rows of {length} tokens"


def _phase(config: PretrainConfig, phase: PhaseConfig) -> str:
    text = f"{phase.duration}, {_batch(config, phase)}"
    if phase.peak_learning_rate:
        text += f", learning rate anew: {phase.peak_learning_rate:g}, warm-up of {phase.warmup}"
    return text


def _objective(config: PretrainConfig) -> str:
    parts = ["masked tokens"]
    if config.encoder.next_sentence_head:
        parts.append("next sentence")
    if config.objective.z_loss_weight:
        parts.append(f"z-loss of weight {config.objective.z_loss_weight:g}")
    return ", ".join(parts)


def _masking(config: PretrainConfig) -> str:
    masking = config.masking
    kind = masking.kind
    if kind == "static":
        kind += f" ({masking.num_static_masks} masks of a row)"
    whole = ", whole words" if masking.whole_words else ""
    special = ", special ones too" if masking.mask_special_tokens else ""
    others = 1 - masking.mask_share - masking.random_share
    return (
        f"{kind}, {masking.rate:.0%} of the tokens{whole}{special}: {masking.mask_share:.0%} "
        f"masked, {masking.random_share:.0%} random, {others:.0%} unchanged"
    )


def _optimizer(config: PretrainConfig) -> str:
    optimizer = config.optimizer
    name = {"adamw": "AdamW", "lamb": "LAMB"}[optimizer.kind]
    correction = "" if optimizer.bias_correction else ", no bias correction"
    return (
        f"{name}, beta1 {optimizer.beta1:g}, beta2 {optimizer.beta2:g}, epsilon "
        f"{optimizer.epsilon:g}, weight decay {optimizer.weight_decay:g} ({optimizer.decay_table})"
        f"{correction}"
    )


def _schedule(config: PretrainConfig) -> str:
    schedule = config.schedule
    decay = {
        "linear": "linear decay",
        "polynomial": f"polynomial decay of power {schedule.power:g}",
        "cosine": "cosine decay",
        "inverse_sqrt": "decay with the inverse square root of the step",
        "warmup_stable_decay": f"constant, then decay over the last {schedule.decay}",
    }[schedule.kind]
    final = schedule.final_share
    end = f" to {final:.3g} of the peak" if final and schedule.kind != "inverse_sqrt" else ""
    return f"warm-up of {schedule.warmup}, {decay}{end}"


def _evaluation(lines: Sequence[Mapping[str, Any]]) -> str:
    evaluations = [line for line in lines if line.get("kind") == "eval"]
    if not evaluations:
        return "Not measured: the run has no evaluation up to this step."
    last = evaluations[-1]
    figures = {
        "loss": ("loss_nats", "{:.4f} nats"),
        "perplexity": ("perplexity", "{:,.3f}"),
        "accuracy": ("masked_accuracy", "{:.2%}"),
    }
    return f"On held-out rows, at step {last['step']:,}, over the masked tokens:\n\n" + card_table(
        {
            # Null stands for what is no number any more.
            name: "not finite" if last[key] is None else text.format(last[key])
            for name, (key, text) in figures.items()
        }
    )


def card_versions() -> str:
    """With what the model was exported."""
    versions = {"roberta_jax": __version__, "Python": platform.python_version()}
    versions |= {package: importlib.metadata.version(package) for package in _PACKAGES}
    return "Exported with " + ", ".join(f"{name} {text}" for name, text in versions.items()) + "."


def card_table(rows: dict[str, Any]) -> str:
    """A table of two columns without a head."""
    lines = [f"| {name} | {str(value).replace('|', '/')} |" for name, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])
