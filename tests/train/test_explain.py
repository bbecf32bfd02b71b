"""What `--explain` tells, against the arithmetic of the published recipes."""

import dataclasses

import pytest

from roberta_jax import config as c
from roberta_jax.data.records import open_dataset
from roberta_jax.errors import UserError
from roberta_jax.train.explain import explain
from tests.train import runs


def told(config):
    """First words → the rest of the line, in order."""
    return [(line[:12].strip(), line[12:]) for line in explain(config)]


def roberta_base():
    return c.PretrainConfig(
        checkpoint=c.CheckpointConfig(save_every_steps=2_500, keep_last=3, keep_every_steps=25_000)
    )


def test_roberta_base_without_a_dataset():
    lines = dict(told(roberta_base()))
    assert "50,265 (assumed: no data.path): 124,696,665 parameters" in lines["model"]
    assert lines["run"].startswith("steps 1 to 500,000: 8,192 rows of 512 tokens")
    assert "500,000 steps, 4,096,000,000 rows, 2,097,152,000,000 tokens" in lines["in all"]
    # 6 x parameters x tokens is the rule of thumb; the vocabulary counts for 15% of them only.
    flops = float(lines["in all"].rsplit(", ", 1)[1].split()[0])
    assert 0.9 * 6 * 90e6 * 2.1e12 < flops < 1.3 * 6 * 90e6 * 2.1e12
    assert "peak 0.0006 after 24,000 of 500,000 steps" in lines["schedule"]
    assert "0.0006 at 24,000" in lines["schedule"] and "2.5e-08 at 1" in lines["schedule"]
    # Weights and two moments in float32, with the padding of the vocabulary.
    assert "200, every 2,500 steps, 1.5 GB each (499 MB of weights)" in lines["checkpoints"]
    assert "at most 24, 35.9 GB" in lines["checkpoints"]
    assert (
        "betas 0.9 and 0.98, epsilon 1e-06, weight decay 0.01 not on biases" in lines["optimizer"]
    )
    assert "dynamic: 15% of the tokens; 80% <mask>, 10% random, 10%" in lines["masking"]
    assert "slots 77 of 512" in lines["masking"]


def test_the_times_are_the_operations_over_the_rate():
    lines = [rest for name, rest in told(roberta_base()) if name == "time"]
    assert len(lines) == 4 and all("(assumed)" in line for line in lines)
    assert any("256 TPU v5e chips" in line for line in lines)


def test_phases_and_their_schedules_are_told_one_by_one():
    config = c.PretrainConfig(
        encoder=c.EncoderConfig(next_sentence_head=True),
        optimizer=c.OptimizerConfig(kind="lamb", moments_dtype="bfloat16", clip_global_norm=1.0),
        objective=c.ObjectiveConfig(z_loss_weight=1e-4),
        train=c.TrainConfig(duration=""),
        phases=(
            c.PhaseConfig(
                duration="7038 steps",
                batch_size=65_536,
                sequence_length=128,
                num_microbatches=8,
                peak_learning_rate=6e-3,
                warmup="28.43%",
            ),
            c.PhaseConfig(
                duration="1563 steps",
                batch_size=32_768,
                peak_learning_rate=4e-3,
                warmup="12.8%",
            ),
        ),
    )
    lines = told(config)
    names = [name for name, _ in lines]
    assert names[:4] == ["model", "phase 1", "phase 2", "in all"]
    texts = [rest for _, rest in lines]
    assert "steps 1 to 7,038: 65,536 rows of 128 tokens in 8 microbatches" in texts[1]
    assert "steps 7,039 to 8,601: 32,768 rows of 512 tokens" in texts[2]
    assert "8,601 steps" in texts[3]
    schedules = [rest for name, rest in lines if name == "schedule"]
    assert "peak 0.006 after 2,001 of 7,038 steps" in schedules[0]
    assert "peak 0.004 after 200 of 1,563 steps" in schedules[1]
    everything = " ".join(texts)
    assert "lamb" in everything and "moments in bfloat16" in everything
    assert "masked tokens + next sentence + 0.0001 x z-loss" in everything
    assert "slots 20 of 128, 77 of 512" in everything


def test_a_dataset_tells_its_vocabulary_and_its_passes(dataset):
    lines = dict(told(runs.tiny_config(dataset)))
    assert "vocabulary 300:" in lines["model"]
    rows = open_dataset(dataset, "train")
    assert f"{20 * 16 / len(rows):,.2f} passes over {dataset}" in lines["run"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train__duration": "3 epochs"}, "config.train.duration is '3 epochs', and without"),
        ({"schedule__warmup": "1 epochs"}, "config.schedule.warmup is '1 epochs', and without"),
        ({"schedule__warmup": "30 steps"}, "30 of the 20 steps"),
        ({"data__path": "nowhere"}, "nowhere is no prepared dataset"),
    ],
)
def test_what_a_run_would_refuse_is_refused(tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        list(explain(runs.tiny_config(**change)))
    assert message in str(caught.value)


def test_it_leaves_the_config_alone():
    config = roberta_base()
    before = dataclasses.replace(config, encoder=dataclasses.replace(config.encoder))
    list(explain(config))
    assert config == before
