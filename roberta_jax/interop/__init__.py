"""Models of other systems, in and out; neither torch nor transformers is needed.

In: a Hugging Face folder or a fairseq checkpoint. Out: an `EncoderConfig`, weights under our paths
and a tokenizer, as a workdir; and, the other way, a folder that transformers opens.

- `names`: the table our path ↔ transformers' tensor name.
- `tensor_files`: safetensors, one tensor at a time.
- `transformers_config`: `config.json` ↔ `EncoderConfig`.
- `weights`: tensors under names ↔ weights under paths; what is missing, extra or mis-shaped.
- `huggingface`: a folder in, a folder out.
- `torch_file`, `torch_pickle`, `fairseq`: `model.pt`, read without running what is in it.
- `import_model`, `export_model`, `model_card`: what the commands do; `host_mesh`: on which device.
"""
