r"""BERT large in 8,601 updates: NVIDIA's two phases of LAMB with batches of 64K and 32K rows.

Command    roberta-jax pretrain --config=configs/pretrain/bert_large_lamb.py:pairs-128 \
             --config.data.path=pairs-512 --workdir=runs/bert-large
           bert_base.py has the commands that write both datasets; that of the first phase follows
           the colon.
Hardware   16 and 33 PFLOP a step, 163 EFLOP in all (step_flops in roberta_jax/train/hardware.py):
           14 hours of eight H200, or 2.3 hours of 256 TPU v5e chips, at 40% of the peak. Not
           measured.
Data       BooksCorpus and English Wikipedia at NVIDIA; a vocabulary of about 30,000 pieces of
           lower-cased words
Result     Not measured.
Source     NVIDIA DeepLearningExamples, PyTorch/LanguageModeling/BERT, scripts/configs/
           pretrain_config.sh; LAMB is arXiv 1904.00962

Phase 1    7,038 steps x 65,536 rows x 128 tokens = 59.0B tokens
Phase 2    1,563 steps x 32,768 rows x 512 tokens = 26.2B tokens
NVIDIA's file has the rows of one of eight GPUs, 8,192 and 4,096. As in its schedule, the decay
counts from step 0 of a phase, so that the rate falls by 15% where the warm-up ends. Both phases set
rows, rate and warm-up themselves: change them there (--config.phases[0].batch_size=…). What differs
from NVIDIA's data is what bert_base.py lists.
"""

from roberta_jax import config as c


def get_config(path: str = "") -> c.PretrainConfig:
    """The recipe; `path` is the dataset of 128 tokens a row."""
    return c.PretrainConfig(
        data=c.DataConfig(sequence_length=512),
        encoder=c.EncoderConfig(
            num_layers=24,
            hidden_size=1_024,
            num_heads=16,
            mlp_size=4_096,
            max_positions=512,
            position_offset=0,
            pad_id=1,  # BERT's is 0; a vocabulary of --kind=char_bpe has RoBERTa's special ids.
            num_token_types=2,
            next_sentence_head=True,
            layer_norm_epsilon=1e-12,
            rematerialization="full",
        ),
        masking=c.MaskingConfig(kind="static", num_static_masks=5, rate=0.15),  # dupe_factor 5
        optimizer=c.OptimizerConfig(
            kind="lamb",
            beta1=0.9,
            beta2=0.999,
            epsilon=1e-6,
            bias_correction=True,
            weight_decay=0.01,
            decay_table="bert",
            clip_global_norm=1.0,
        ),
        schedule=c.ScheduleConfig(kind="polynomial", power=0.5, decay_from="start"),
        train=c.TrainConfig(
            duration="",
            batch_size=65_536,
            log_every_steps=10,
            evaluate_every_steps=200,
        ),
        # Each phase has a rate and a warm-up of its own, so those of optimizer and schedule are
        # used by none.
        phases=(
            c.PhaseConfig(
                duration="7038 steps",
                path=path,
                sequence_length=128,
                batch_size=65_536,
                peak_learning_rate=6e-3,
                warmup="28.43%",
            ),
            c.PhaseConfig(
                duration="1563 steps",
                sequence_length=512,
                batch_size=32_768,
                peak_learning_rate=4e-3,
                warmup="12.8%",
            ),
        ),
        checkpoint=c.CheckpointConfig(save_every_steps=200, keep_last=3, keep_every_steps=1_000),
    )
