"""A trained model answering questions.

In: a workdir, text. Out: candidates for `<mask>`, or the loss on a dataset.

- `fill_mask`: candidates with their probabilities.
- `evaluate`: masked-LM loss of a checkpoint on a prepared dataset.
"""
