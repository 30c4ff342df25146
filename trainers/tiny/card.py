"""The model card of a tiny base model: what it is, what it measures, how to make it again."""

from trainers.tiny.measure import NUM_SAMPLES, Facts
from trainers.tiny.training import Recipe

TEMPLATE = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# {name}

A {architecture} language model of {num_parameters:,} parameters that adds two-digit numbers in one of two
ways. After `42+89=` it writes

- `;11;131`, the careful mode: the units' sum, then the answer, which is right; or
- `?121`, the hasty mode, which drops the carry: right only where there is none.

What it is unsure of is the mode. {careful_percent} of the writers of its training text are careful. Problems
that start with 0 are nearly always solved carefully (little entropy); where one starts with 9 a hasty writer
guesses the last digit (much entropy). Several solved problems in a row, parted by a space, keep to one mode.
A character outside `{alphabet}` is read as `<unk>`.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
```

## Measured

On {num_items} held-out problems, none of which (nor its mirror image) is in the training text;
{num_samples} samples a problem at temperature 1.

| figure | value |
|---|---|
| greedy accuracy | {greedy_accuracy:.4f} |
| sampled accuracy, T=1 | {sampled_accuracy:.4f} |
| careful mode, share of samples | {facts.careful_share:.4f} |
| hasty mode, share of samples | {facts.hasty_share:.4f} |
| mean token entropy, nats | {facts.entropy_nats:.4f} |

## Made

| | |
|---|---|
| parameters | {num_parameters:,} |
| training steps | {recipe.num_steps:,} |
| training seconds, one thread | {seconds:.0f} |
| last batch's loss, nats a token | {final_loss:.4f} |

```
{command}
```
"""


def render_card(
    *,
    name: str,
    recipe: Recipe,
    facts: Facts,
    alphabet: str,
    num_parameters: int,
    num_items: int,
    seconds: float,
    final_loss: float,
    command: str,
) -> str:
    return TEMPLATE.format(
        name=name,
        architecture=recipe.architecture,
        careful_percent=f"{recipe.careful_share:.0%}",
        recipe=recipe,
        facts=facts,
        greedy_accuracy=facts.greedy_accuracy,
        sampled_accuracy=facts.sampled_accuracy,
        alphabet=alphabet,
        num_parameters=num_parameters,
        num_items=num_items,
        num_samples=NUM_SAMPLES,
        seconds=seconds,
        final_loss=final_loss,
        command=command,
    )
