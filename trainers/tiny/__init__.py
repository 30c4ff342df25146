"""The tiny world: base models of 30k to 1M parameters that show entropy minimization on a CPU in seconds.

Words used here:
    world      two-digit addition, written in a careful and a hasty *mode* (`world`)
    tokenizer  one token a character (`tokenizer`; each model folder here links to `tokenization`)
    recipe     everything that decides a base model's weights (`training`)
    facts      what a base model measures, written on its model card (`measure`, `card`)
    make       `python -m trainers.tiny.make` trains one base model and writes its folder

Shipped as package data: `models/<name>/`, plain Hugging Face folders, and `data/`, JSON lines: the held-out
evaluation items, a pool of candidate training prompts, and training examples of different kind (`items`).
"""

from pathlib import Path

MODELS_DIR = Path(__file__).parent / "models"
"""Where the shipped base models lie, one folder each."""

DATA_DIR = Path(__file__).parent / "data"
"""Where the shipped items lie."""
