"""The tiny world's tokenizer: one token a character, and nothing that can fail on foreign text.

Ids: the special tokens first, in the order of `SPECIAL_TOKENS`, then `world.ALPHABET`. Any other character
becomes `<unk>`. Encoding adds no token at either end. The chat template renders the bare contents, so a model
that was trained on plain text sees the same text through a chat interface.
"""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from trainers.tiny import tokenization
from trainers.tiny.world import ALPHABET

PAD, UNKNOWN, END = "<pad>", "<unk>", "<end>"
SPECIAL_TOKENS = (PAD, UNKNOWN, END)

CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"

MAX_POSITIONS = 4096
"""Tokens in a prompt and its completion; the longest sequence of the reference method."""


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer as a Hugging Face object; `save_pretrained` writes it as two JSON files."""
    vocabulary = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *ALPHABET))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_POSITIONS,
        chat_template=CHAT_TEMPLATE,
        auto_map={"AutoTokenizer": [None, f"{tokenization.__name__.rpartition('.')[2]}.TinyTokenizer"]},
    )
