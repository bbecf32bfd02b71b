"""What a fine-tuning run tells of its steps."""

import jax.numpy as jnp

from roberta_jax.finetune.telling import of_finetuning
from roberta_jax.tasks.catalogue import find_task


def test_a_compiled_step_is_told_by_the_length_of_its_rows():
    telling = of_finetuning(find_task("race"), num_seeds=2)
    batch = {"targets": jnp.zeros((2, 8)), "tokens": jnp.zeros((2, 8 * 4, 96))}
    assert telling.compiled_for(batch) == " for rows of 96 tokens"
