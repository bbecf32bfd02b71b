r"""BERT base as published, the baseline of RoBERTa: segment pairs, static masks, short rows first.

Command    roberta-jax tokenizer --input='corpus/*.txt' --kind=char_bpe --output=tokenizer
           roberta-jax prepare --input='corpus/*.txt' --tokenizer=tokenizer \
             --format=segment_pair --sequence_length=128 --output=pairs-128
           roberta-jax prepare --input='corpus/*.txt' --tokenizer=tokenizer \
             --format=segment_pair --sequence_length=512 --output=pairs-512
           roberta-jax pretrain --config=configs/pretrain/bert_base.py:pairs-128 \
             --config.data.path=pairs-512 --workdir=runs/bert
           The dataset of the first phase follows the colon; a folder with the other one is
           data.path. A line of the text is a sentence; other text wants --sentence_splitter.
Hardware   18 and 77 TFLOP a step, 24 EFLOP in all (step_flops in roberta_jax/train/hardware.py): 17
           hours of one H200 at 40% of its peak. Not measured.
Data       BooksCorpus and English Wikipedia (16 GB of text) in the paper; a vocabulary of about
           30,000 pieces of lower-cased words
Result     as the RoBERTa paper's table 1 has it, SQuAD 2.0 F1 76.3, MNLI 84.3, SST-2 92.8. Not
           measured here.
Source     arXiv 1810.04805, and google-research/bert for what its code decides

Phase 1    900,000 steps x 256 rows x 128 tokens = 29.5B tokens
Phase 2    100,000 steps x 256 rows x 512 tokens = 13.1B tokens; as many rows, each four times as
           long
One schedule spans both; as in Google's code, it falls from step 0, so that the rate drops where the
warm-up ends.

What is not Google's: the vocabulary is a character-level BPE, with RoBERTa's two `</s>` between the
segments of a pair. `prepare` pairs the segments once, where Google pairs them anew for each of its
ten copies (the masks are ten here as well). A row is filled up with further pairs, so 256 rows are
more than 256 pairs. 15% are of the ordinary tokens, without `<s>` and `</s>`, and random
replacements are never special tokens. Initial weights are normal, not truncated at two deviations.
"""

from roberta_jax import config as c


def get_config(path: str = "") -> c.PretrainConfig:
    """The recipe; `path` is the dataset of 128 tokens a row."""
    return c.PretrainConfig(
        data=c.DataConfig(sequence_length=512),
        encoder=c.EncoderConfig(
            num_layers=12,
            hidden_size=768,
            num_heads=12,
            mlp_size=3_072,
            max_positions=512,
            position_offset=0,
            pad_id=1,  # BERT's is 0; a vocabulary of --kind=char_bpe has RoBERTa's special ids.
            num_token_types=2,
            next_sentence_head=True,
            layer_norm_epsilon=1e-12,
        ),
        # Google writes the corpus ten times, masked otherwise each time.
        masking=c.MaskingConfig(kind="static", num_static_masks=10, rate=0.15),
        optimizer=c.OptimizerConfig(
            peak_learning_rate=1e-4,
            beta1=0.9,
            beta2=0.999,
            epsilon=1e-6,
            bias_correction=False,  # AdamWeightDecayOptimizer has none.
            weight_decay=0.01,
            decay_table="bert",
            clip_global_norm=1.0,
        ),
        schedule=c.ScheduleConfig(kind="linear", warmup="10_000 steps", decay_from="start"),
        train=c.TrainConfig(
            duration="1_000_000 steps",
            batch_size=256,
            log_every_steps=100,
            evaluate_every_steps=5_000,
        ),
        phases=(
            c.PhaseConfig(duration="90%", path=path, sequence_length=128),
            c.PhaseConfig(duration="10%", sequence_length=512),
        ),
        checkpoint=c.CheckpointConfig(save_every_steps=5_000, keep_last=3, keep_every_steps=50_000),
    )
