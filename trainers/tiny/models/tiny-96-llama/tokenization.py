"""The tokenizer class of the tiny models. A copy of this file lies in every model folder.

AutoTokenizer builds its own byte-level tokenizer for Qwen2 models, whatever `tokenizer.json` says, unless the
folder names a class. This one takes `tokenizer.json` as it is. It is run only with `trust_remote_code=True`;
without, transformers falls back to its generic class, which does the same.
"""

from transformers import PreTrainedTokenizerFast


class TinyTokenizer(PreTrainedTokenizerFast):
    """The tokenizer that `tokenizer.json` describes."""
