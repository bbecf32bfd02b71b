"""README.md of an exported model."""

import importlib.metadata
import json
import math
import platform

import pytest

from roberta_jax.config import PhaseConfig
from roberta_jax.data.manifest import Manifest
from roberta_jax.errors import UserError
from roberta_jax.interop.model_card import is_our_card, model_card
from roberta_jax.version import __version__
from tests.train import runs

RECORD = {"examples_seen": 12_345, "data_fingerprint": "0123456789abcdef"}
EVALUATION = {"kind": "eval", "loss_nats": 2.5, "perplexity": 12.182, "masked_accuracy": 0.4321}


def make(folder, lines=(), *, record=RECORD, data="", config=None, **changes):
    """The card of a run whose record has these lines."""
    config = config or runs.tiny_config(data)
    config.encoder.vocab_size = 300
    config.data.tokenizer_fingerprint = "fedcba9876543210"
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    options = {"name": "mine", "step": 20, "family": "roberta", "mask_token": "<mask>", **changes}
    return model_card(config, folder, record, **options)


def front_matter(card):
    assert card.startswith("---\n")
    return card.split("---\n")[1].splitlines()


def test_what_model_hubs_read(tmp_path):
    assert front_matter(make(tmp_path)) == [
        *("library_name: transformers", "pipeline_tag: fill-mask", 'mask_token: "<mask>"', "tags:"),
        *("- roberta", "- masked-lm", "- roberta_jax"),
    ]
    lines = front_matter(make(tmp_path, family="bert", mask_token="[MASK]"))
    assert "- bert" in lines and 'mask_token: "[MASK]"' in lines


def test_the_recipe_and_the_size(tmp_path):
    card = make(tmp_path)
    for line in (
        "# mine",
        "| layers | 2 |",
        "| vocabulary | 300 |",
        "| longest text, in tokens | 32 |",
        "| updates | 20, of a run of 20 steps |",
        "| batch | 16 rows of 32 tokens |",
        "| masking | dynamic, 15% of the tokens: 80% masked, 10% random, 10% unchanged |",
        "| optimizer | AdamW, beta1 0.9, beta2 0.98, epsilon 1e-06, weight decay 0.01 (bert) |",
        "| learning rate | 0.001, warm-up of 4 steps, linear decay |",
        "| objective | masked tokens |",
        "| dropout | embedding 0.1, sublayers 0.1, attention 0.1, activation 0 |",
        "| gradient clip | none |",
        "| seed | 3 |",
        'fill_mask("He opened the <mask> and went out.")',
    ):
        assert line in card.splitlines(), line
    assert "20 updates, 12,345 rows of 32 tokens. It began with random weights." in card
    assert "None" not in card and "inf" not in card


def test_the_data_of_the_run(tmp_path, dataset):
    manifest = Manifest.load(dataset)
    record = {**RECORD, "data_fingerprint": manifest.fingerprint}
    card = make(tmp_path, data=dataset, record=record)
    train = manifest.splits["train"]
    assert f"| dataset | dataset, fingerprint {manifest.fingerprint} |" in card
    assert f"| tokens | {train.tokens:,} |" in card
    assert f"| rows | {train.rows:,} of 32 tokens, full_sentences |" in card
    assert "| tokenizer | byte_bpe, fingerprint fedcba9876543210 |" in card
    assert str(dataset.parent) not in card


def test_data_that_is_gone_or_another_now_is_named_by_its_fingerprint(tmp_path, dataset):
    for place in (dataset, tmp_path / "secret" / "gone|corpus"):
        card = make(tmp_path, data=place)
        name = place.name.replace("|", "/")
        assert f"| dataset | {name}, fingerprint 0123456789abcdef |" in card
        assert "| tokens |" not in card and "| documents |" not in card
        assert str(place.parent) not in card


def test_the_newest_evaluation_up_to_the_step(tmp_path):
    lines = [
        {**EVALUATION, "step": 5},
        {**EVALUATION, "step": 10, "loss_nats": 1.25},
        {"step": 12, "kind": "train", "loss_nats": 9.0},
        {"step": 12, "examples_seen": 3},
        {**EVALUATION, "step": 15},
    ]
    card = make(tmp_path, lines, step=12)
    assert "On held-out rows, at step 10, over the masked tokens" in card
    assert "| loss | 1.2500 nats |" in card
    assert "| perplexity | 12.182 |" in card and "| accuracy | 43.21% |" in card
    assert "Not measured: the run has no evaluation" in make(tmp_path, lines, step=4)
    (tmp_path / "metrics.jsonl").unlink()
    assert "at step 15" in make(tmp_path, lines)


@pytest.mark.parametrize("name", ["loss_nats", "perplexity", "masked_accuracy"])
def test_figures_that_are_no_numbers_any_more(tmp_path, name):
    card = make(tmp_path, [{**EVALUATION, "step": 5, name: None}])
    assert card.count("not finite") == 1 and "None" not in card


def test_a_damaged_record_is_said(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("{}\n{}\n")
    config = runs.tiny_config()
    with pytest.raises(UserError, match="metrics.jsonl line 1"):
        model_card(
            *(config, tmp_path, RECORD),
            **{"name": "a", "step": 1, "family": "roberta", "mask_token": "<mask>"},
        )


@pytest.mark.parametrize("folder", ["elsewhere/deep/other-run", "other-run", "a, step 3/other-run"])
def test_the_run_that_gave_the_first_weights_is_named_without_its_place(tmp_path, folder):
    message = f"starting from the weights of {folder}, step 1,000"
    line = {"step": 0, "kind": "event", "event": "started", "message": message}
    card = make(tmp_path, [line, {**EVALUATION, "step": 5}])
    assert "It began with the weights of other-run, step 1,000." in card
    assert "elsewhere" not in card and "random weights" not in card


def test_an_imported_model_has_no_run(tmp_path):
    card = make(tmp_path, origin="roberta-base", record={})
    assert "imported by roberta_jax from roberta-base." in card
    assert "It was not tested here for any use." in card
    for word in ("## Training", "## Evaluation", "updates", "AdamW"):
        assert word not in card


def test_versions(tmp_path):
    card = make(tmp_path)
    assert f"roberta_jax {__version__}, Python {platform.python_version()}" in card
    for package in ("jax", "flax", "optax"):
        assert f"{package} {importlib.metadata.version(package)}" in card


def test_a_clip_is_told(tmp_path):
    config = runs.tiny_config(optimizer__clip_global_norm=0.5)
    assert not math.isinf(config.optimizer.clip_global_norm)
    options = {"name": "a", "step": 1, "family": "roberta", "mask_token": "<mask>"}
    assert "| gradient clip | 0.5 |" in model_card(config, tmp_path, RECORD, **options)


def test_phases_are_told_one_by_one(tmp_path):
    config = runs.tiny_config("a/first", train__duration="")
    config.data.sequence_length = 128
    config.phases = (
        PhaseConfig(duration="7038 steps", batch_size=65536),
        PhaseConfig(
            duration="1563 steps",
            path="b/second",
            sequence_length=512,
            peak_learning_rate=4e-3,
            warmup="12.8%",
        ),
    )
    card = make(tmp_path, config=config)
    for line in (
        "| updates | 20, of a run of 2 phases |",
        "| phase 1 | 7038 steps, 65,536 rows of 128 tokens |",
        "| phase 2 | 1563 steps, 16 rows of 512 tokens, learning rate anew: 0.004, "
        "warm-up of 12.8% |",
        "| dataset | first, second, fingerprint 0123456789abcdef |",
    ):
        assert line in card.splitlines(), line
    assert "12,345 rows of 128 and 512 tokens." in card and "| batch |" not in card
    config.train.duration = "1e9 tokens"
    assert "| updates | 20, of a run of 1e9 tokens |" in make(tmp_path, config=config)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"masking__kind": "static", "masking__whole_words": True, "masking__rate": 0.2},
            "| masking | static (10 masks of a row), 20% of the tokens, whole words: 80% masked, "
            "10% random, 10% unchanged |",
        ),
        (
            {"masking__mask_special_tokens": True},
            "| masking | dynamic, 15% of the tokens, special ones too: 80% masked, 10% random, "
            "10% unchanged |",
        ),
        (
            {"optimizer__kind": "lamb", "optimizer__bias_correction": False},
            "| optimizer | LAMB, beta1 0.9, beta2 0.98, epsilon 1e-06, weight decay 0.01 (bert), "
            "no bias correction |",
        ),
        (
            {"optimizer__average_decay": 0.999},
            "| weights | exponential average over the updates, decay 0.999 |",
        ),
        (
            {"objective__z_loss_weight": 1e-4, "encoder__next_sentence_head": True},
            "| objective | masked tokens, next sentence, z-loss of weight 0.0001 |",
        ),
        (
            {"encoder__next_sentence_head": True},
            "| next-sentence head | left out: transformers has no roberta with one |",
        ),
        (
            {"encoder__embedding_dropout_rate": 0.3, "encoder__activation_dropout_rate": 0.05},
            "| dropout | embedding 0.3, sublayers 0.1, attention 0.1, activation 0.05 |",
        ),
    ],
)
def test_what_differs_from_the_recipe_of_roberta_is_told(tmp_path, changes, line):
    card = make(tmp_path, config=runs.tiny_config(**changes))
    assert line in card.splitlines()
    assert line not in make(tmp_path).splitlines()


def test_a_bert_has_its_next_sentence_head(tmp_path):
    config = runs.tiny_config(encoder__next_sentence_head=True)
    card = make(tmp_path, config=config, family="bert")
    assert "| next-sentence head | included |" in card.splitlines()
    assert "next-sentence" not in make(tmp_path, family="bert")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"kind": "polynomial", "power": 0.5, "warmup": "28.43%"},
         "warm-up of 28.43%, polynomial decay of power 0.5"),
        ({"kind": "cosine", "final_share": 0.1},
         "warm-up of 4 steps, cosine decay to 0.1 of the peak"),
        ({"kind": "inverse_sqrt", "final_share": 0.1},
         "warm-up of 4 steps, decay with the inverse square root of the step"),
        ({"kind": "warmup_stable_decay", "decay": "20%"},
         "warm-up of 4 steps, constant, then decay over the last 20%"),
    ],
)  # fmt: skip
def test_schedules(tmp_path, changes, text):
    settings = {
        f"schedule__{name}": value for name, value in {"warmup": "4 steps", **changes}.items()
    }
    card = make(tmp_path, config=runs.tiny_config(**settings))
    assert f"| learning rate | 0.001, {text} |" in card.splitlines()


def test_our_cards_are_recognized(tmp_path):
    path = tmp_path / "README.md"
    assert not is_our_card(path)
    path.write_text("# roberta-base\n\nTrained with - roberta_jax, they say.\n")
    assert not is_our_card(path)
    path.write_bytes(b"\xff\xfe")
    assert not is_our_card(path)
    path.write_text(make(tmp_path), encoding="utf-8")
    assert is_our_card(path)
