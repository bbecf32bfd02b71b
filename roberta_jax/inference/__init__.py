"""A trained model answering questions.

In: a workdir or a Hugging Face folder, text. Out: NumPy arrays, candidates for `<mask>`,
perplexities, or the loss on a dataset.

- `model`: `load` and the `Model` that it gives, which `roberta_jax.load` hands out.
- `source`: weights and config of a workdir or of a Hugging Face folder.
- `rows`: texts → rows of ids, rows → batches of few shapes.
- `evaluate`: masked-LM loss of a checkpoint on a prepared dataset.
"""
