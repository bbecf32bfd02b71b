"""What an encoder is fine-tuned for: tasks, their files, rows of ids, scores; NumPy only.

In: the files of GLUE, SQuAD, RACE or of the user, a tokenizer. Out: rows with targets for the
model, and from what it predicts of them: scores as published, answers, files for submission.

- `task`: what a task is; `catalogue`: those that are published, with their figures.
- `examples`: one example of each kind, and the splits of a task.
- `load`: the files of any task → its splits; `glue`, `squad`, `race`, `user_table` are the formats.
- `features`: examples → rows of ids with targets; `windows` of a long passage; `batches` of rows of
  similar length, a function of (seed, epoch).
- `scores`: what a task is judged by; `squad_scores`, `answers` and `entities` for spans and tokens.
- `predictions`: from what the model gives to what is predicted; `submission` writes it, in the
  formats of GLUE and SQuAD too.
- `results`: scores of several seeds and trials, and their file; `results_table`: the same for
  people; `finetuned_folder`: what fine-tuning leaves in a folder.
"""
