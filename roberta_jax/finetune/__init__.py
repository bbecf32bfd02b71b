"""Fine-tuning: the encoder with the head of a task, trained on its examples.

In: a model (a workdir or a Hugging Face folder), a task and its files. Out: a workdir with the
scores of every seed and learning rate, the best model, predictions and a page of results.

- `finetune`: the story of a run, from a config to a table; `trial`: one learning rate and batch
  size, with all its seeds; `trial_record`: what it was begun with and what
  came of it; `probe`: a task during pretraining.
- `model_folder`: a fine-tuned model on disk; `finetuned_model`: the same, asked from Python;
  `foreign_task`: one that another system made; `predict`, `predict_files`: predictions of many.
- `export`, `task_card`: a folder that transformers opens.
"""
