"""Base models: from a folder or the hub to weights, tokenizer and encoded prompts.

base_model       a model and its tokenizer, loaded and checked
download         hub models on this node's own disk
adapter          LoRA, put into the model
prompt_encoding  from problems to token ids
"""
