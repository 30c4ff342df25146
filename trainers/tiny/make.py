"""Make one tiny base model: train it, measure it, write its folder.

    python -m trainers.tiny.make --size 64

Owns the folder it writes and nothing else. The folder appears whole, by rename, or not at all.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from sweeps.manifest.atomic import replacing_folder
from trainers.tiny.world import ALPHABET, CAREFUL_SHARE, split

if TYPE_CHECKING:
    from trainers.tiny.training import Recipe

DEFAULTS = {32: (4000, 8e-3), 64: (2500, 4e-3), 96: (1500, 2e-3), 192: (1200, 1e-3)}
"""Steps and peak learning rate by hidden width; another width takes those of the nearest. Chosen so that both
modes are learned: at 4e-3 the width 96 can stay on a plateau where the hasty mode's digits are guessed."""

FILE_MODE = 0o644
"""Readable by everyone: safetensors writes files that only their owner can read."""

PROGRESS_S = 1.0
"""Seconds between two progress lines."""

EXAMPLE = """\
example:
  python -m trainers.tiny.make --size 64 --careful 0.8 --name tiny-64-careful --out outputs/models
writes outputs/models/tiny-64-careful, about two minutes on one core.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainers.tiny.make",
        description="Train one tiny base model on two-digit addition and write it as a Hugging Face folder.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--size", type=int, required=True, help="hidden width, a multiple of 8; 64 gives 94k parameters")
    add(
        "--careful",
        type=float,
        default=CAREFUL_SHARE,
        help="share of careful writers, 0 to 1 (default %(default)s)",
    )
    add(
        "--name",
        help="the folder's name (default: tiny-SIZE, with the careful share if it is not the default)",
    )
    add(
        "--out", type=Path, default=Path("outputs/models"), help="where the folder goes (default %(default)s)"
    )
    add("--arch", default="qwen2", help="architecture (default %(default)s)")
    add("--seed", type=int, default=0, help="of the weights and the text (default %(default)s)")
    add("--steps", type=int, help="optimizer steps (default: by size)")
    add("--lr", type=float, help="peak learning rate (default: by size)")
    add("--force", action="store_true", help="replace a folder that is already there")
    return parser


def default_name(size: int, careful: float) -> str:
    """Such as `tiny-64`, or `tiny-64-careful80` where the mode mix is not the default one."""
    return f"tiny-{size}" if careful == CAREFUL_SHARE else f"tiny-{size}-careful{100 * careful:g}"


def refuse(message: str) -> NoReturn:
    print(f"make: {message}", file=sys.stderr)
    raise SystemExit(2)


def check_values(args: argparse.Namespace) -> None:
    """Refuse what cannot be trained, before anything is loaded."""
    if not 0 <= args.careful <= 1:
        refuse(
            f"--careful {args.careful:g} is out of range: give a share from 0 to 1, such as {CAREFUL_SHARE}"
        )
    if args.steps is not None and args.steps < 1:
        refuse(f"--steps {args.steps} is out of range: give 1 or more, or leave it out")
    if args.lr is not None and not 0 < args.lr < 1:
        refuse(f"--lr {args.lr:g} is out of range: give a number between 0 and 1, such as 2e-3")
    if args.name is not None and (Path(args.name).name != args.name or args.name in {"", ".", ".."}):
        refuse(f"--name {args.name!r} is not a folder name: leave out slashes, and use --out for the place")


def check_target(target: Path, force: bool) -> None:
    """Refuse what cannot be written, before anything is trained."""
    if target.exists() and not force:
        refuse(f"{target} is already there: choose another --name or --out, or add --force to replace it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        refuse(f"cannot write to {target.parent} ({error.strerror}): choose another --out")


def recipe_from(args: argparse.Namespace) -> "Recipe":
    from trainers.tiny.architectures import ARCHITECTURES, SIZE_STEP
    from trainers.tiny.training import Recipe

    if args.arch not in ARCHITECTURES:
        refuse(f"unknown architecture {args.arch!r}: choose one of {', '.join(ARCHITECTURES)}")
    if args.size < SIZE_STEP or args.size % SIZE_STEP:
        nearest = max(SIZE_STEP, round(args.size / SIZE_STEP) * SIZE_STEP)
        refuse(f"--size {args.size} does not fit: give a multiple of {SIZE_STEP}, such as {nearest}")
    num_steps, peak_lr = DEFAULTS[min(DEFAULTS, key=lambda size: abs(size - args.size))]
    return Recipe(
        architecture=args.arch,
        size=args.size,
        careful_share=args.careful,
        num_steps=num_steps if args.steps is None else args.steps,
        peak_lr=peak_lr if args.lr is None else args.lr,
        seed=args.seed,
    )


def command_for(recipe: "Recipe", name: str) -> str:
    """The command that makes this model again, every choice spelled out."""
    return (
        f"python -m trainers.tiny.make --size {recipe.size} --careful {recipe.careful_share:g}"
        f" --arch {recipe.architecture} --steps {recipe.num_steps} --lr {recipe.peak_lr:g}"
        f" --seed {recipe.seed} --name {name}"
    )


class Progress:
    """A line a second: steps done, loss, rate, time left."""

    def __init__(self, num_steps: int) -> None:
        self._num_steps = num_steps
        self._started_s = self._printed_s = time.monotonic()

    def __call__(self, done: int, loss: float) -> None:
        now_s = time.monotonic()
        if now_s - self._printed_s < PROGRESS_S and done < self._num_steps:
            return
        self._printed_s = now_s
        rate = done / (now_s - self._started_s)
        left_s = (self._num_steps - done) / rate
        line = f"step {done}/{self._num_steps}  loss {loss:.4f}  {rate:.1f} steps/s  {left_s:.0f} s left"
        on_terminal = sys.stderr.isatty()
        end = "\n" if done == self._num_steps or not on_terminal else ""
        print(f"\r{line:<72}" if on_terminal else line, end=end, file=sys.stderr, flush=True)


def make(recipe: "Recipe", name: str, target: Path) -> str:
    from transformers import GenerationConfig
    from transformers.utils import logging

    from trainers.tiny import tokenization
    from trainers.tiny.card import render_card
    from trainers.tiny.measure import measure
    from trainers.tiny.tokenizer import build_tokenizer
    from trainers.tiny.training import train

    logging.disable_progress_bar()
    tokenizer = build_tokenizer()
    trained = train(recipe, tokenizer, Progress(recipe.num_steps))
    items = [{"problem": problem.prompt, "answer": problem.answer} for problem in split().eval]
    trained.model.generation_config = GenerationConfig(
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id
    )
    card = render_card(
        name=name,
        recipe=recipe,
        facts=measure(trained.model, tokenizer, items),
        alphabet=ALPHABET,
        num_parameters=trained.model.num_parameters(),
        num_items=len(items),
        seconds=trained.seconds,
        final_loss=trained.final_loss,
        command=command_for(recipe, name),
    )
    with replacing_folder(target) as folder:
        trained.model.save_pretrained(folder)
        tokenizer.save_pretrained(folder, save_jinja_files=False)
        shutil.copy(tokenization.__file__, folder)
        (folder / "README.md").write_text(card, encoding="utf-8")
        for file in folder.iterdir():
            file.chmod(FILE_MODE)
    return card


def main(argv: list[str] | None = None) -> int:
    """Entry point. Returns the exit status; 2 for bad input, with nothing written."""
    args = build_parser().parse_args(argv)
    name = args.name or default_name(args.size, args.careful)
    target = args.out / name
    check_values(args)
    recipe = recipe_from(args)
    check_target(target, args.force)
    card = make(recipe, name, target)
    print(card[card.index("## Measured") : card.index("## Made")].strip())
    print(f"\nwritten: {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
