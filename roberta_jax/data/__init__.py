"""Text on disk goes in, NumPy batches of token ids come out; nothing here imports jax.

The way of a document: `inputs` finds and opens files, `corpus` reads a `Document` of sentences (cut
by `sentences`; `embedded` finds prose on the machine instead), `validation_split` says where it
goes, `encoding` makes ids of it on several cores with the `tokenizer` (`words` remembers what it
knows), `formats` packs sentences into rows of one length, `records` stores rows in ArrayRecord
shards, which the `manifest` describes, and reads them back, `loader` gives the `Batch` at any
position of a run.

`prepare` runs the way up to the records, `tokenizer_folder` makes a tokenizer from a corpus, in the
files that `transformers_layout` lists; both write through `output_folder`, which is all or nothing,
and show their `progress`.
"""
