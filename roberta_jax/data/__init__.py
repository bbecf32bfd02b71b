"""Text on disk goes in, NumPy batches of token ids come out; nothing here imports jax.

The way of a document: `inputs` finds files and reads their lines (`compression` opens them,
`parquet` reads tables, `tfds_source` records), `corpus` makes a `Document` of sentences (cut by
`sentences`; `bad_text` is what is no UTF-8; `embedded` finds prose on the machine instead),
`validation_split` says where it goes, `encoding` makes ids of it with the `tokenizer` (`words` cuts
a text as GPT-2 does, and `word_memory` has what was met before), `formats`
makes rows of it (`rows` says what every format gives; `doc_sentences` and `pairs` are two more
formats, and `packing` fills their rows), `records` stores rows in ArrayRecord shards, which the
`manifest` describes, and reads them back, `loader` gives the `Batch` at any position of a run: in
the `order` of one dataset, or of a `mixture`.

`prepare` runs the way up to the records by its `prepare_settings`: `parts` divides the corpus,
`part_writer` makes one part, `part_work` is that work for whichever of the `runners` does it, a
`part_pool` of several `processes` here or the `beam_runner`; `duplicates` finds what to leave out,
`assembly` joins the parts, and `prepare_summary` says what came of it; `inspection` shows it.
`tables` reads rows of named columns, and `json_file` a whole file of JSON, for the tasks that a
model is fine-tuned for. `tfds_builder` makes a TFDS dataset of a corpus. `tokenizer_folder` makes a
tokenizer from a corpus (`byte_bpe`, `char_bpe`) or of published files (`json_tokenizer`,
`sentencepiece_model`), in the layout that `transformers_layout` has. All write through
`output_folder`, which is all or nothing, and show their `progress`.
"""
