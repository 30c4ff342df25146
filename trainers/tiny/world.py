"""The tiny world: two-digit addition, written in two ways. Pure: no files, no clock, no torch.

A *problem* is two addends, 0 to 99 each, written `42+89=`. It is solved in one of two *modes*:

    careful   `;11;131`   the units sum in two digits, then the answer in three: always right
    hasty     `?121`      adds digit by digit and drops the carry: right only where there is none

A *document* is one to three solved problems by one *writer*, parted by a space. A writer has one degree of
haste u, uniform in [0, 1), and solves a problem carefully where u is below the problem's *careful share*; so
one document keeps to one mode, and solved problems in a prompt tell which. The share depends on the first
character of the problem, which is what makes problems differ in entropy:

    `0`         nearly always careful (`SURE_SHARE`): little is left to choose, low entropy
    `1` … `8`   the world's `careful_share`
    `9`         the same share, but a hasty writer guesses the last digit: high entropy, and mostly wrong

Both modes are near-deterministic for a trained model, so the entropy that is left is the choice of mode.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

ADDENDS = 100
"""Addends run from 0 to 99: two digits, zero padded."""

SEPARATOR = " "
"""Between two solved problems of one document. Models do not learn to write it: whoever asks does."""

CAREFUL_MARK, HASTY_MARK = ";", "?"
"""A solution's first character tells its mode; the answer follows the last mark."""

ALPHABET = "0123456789+=" + CAREFUL_MARK + HASTY_MARK + SEPARATOR
"""Every character that occurs in a document."""

CAREFUL_SHARE = 0.6
"""Default share of careful writers. Above one half, so that the greedy answer is the right one."""

SURE_SHARE = 0.98
"""Careful share of problems that start with 0. Below 1, so that the hasty mode is still seen there."""

NUM_EVAL = 500
"""Held-out problems: a 95 % interval of an accuracy near 0.83 is then 3.3 points wide on either side."""

NUM_POOL = 200
"""Candidate training prompts."""

NUM_TRAINING_SET = 1280
"""Prompts of the training set: as many as the multi-shot runs of arXiv 2505.20282 have."""

SPLIT_SEED = 169
"""One split for every model, whatever its training seed, so that all are measured on the same items. With
this seed the held-out problems have the world's shares: 45 % carry, 10 % start with 0, 10 % with 9."""

NUM_SOLVED_WEIGHTS = {1: 0.8, 2: 0.1, 3: 0.1}
"""How often a batch of documents holds one, two or three solved problems each."""


@dataclass(frozen=True, kw_only=True, order=True)
class Problem:
    """One addition.

    Raises:
        ValueError: if an addend is not in 0 … 99.
    """

    a: int
    b: int

    def __post_init__(self) -> None:
        for name, value in (("a", self.a), ("b", self.b)):
            if not 0 <= value < ADDENDS:
                raise ValueError(f"addend {name}={value} is out of range: give a whole number from 0 to 99")

    @property
    def prompt(self) -> str:
        """The text a model completes, such as `42+89=`."""
        return f"{self.a:02d}+{self.b:02d}="

    @property
    def answer(self) -> str:
        """The right answer in three digits, such as `131`."""
        return f"{self.a + self.b:03d}"

    @property
    def units(self) -> int:
        """Sum of the two last digits, 0 to 18."""
        return self.a % 10 + self.b % 10

    @property
    def carries(self) -> bool:
        """Whether the units sum reaches ten: where the hasty mode is wrong."""
        return self.units >= 10

    @property
    def is_sure(self) -> bool:
        """Whether nearly every writer is careful here: the prompt starts with 0."""
        return self.a < 10

    @property
    def is_guessed(self) -> bool:
        """Whether a hasty writer guesses the last digit here: the prompt starts with 9."""
        return self.a >= 90


def parse(prompt: str) -> Problem:
    """The problem behind a prompt such as `42+89=`; of a prompt with solved problems, the last.

    Raises:
        ValueError: if the text does not end in a problem as the world writes it.
    """
    text = prompt.rsplit(SEPARATOR, 1)[-1]
    if len(text) == 6 and text[2] == "+" and text[5] == "=" and (text[:2] + text[3:5]).isdecimal():
        return Problem(a=int(text[:2]), b=int(text[3:5]))
    raise ValueError(f"{prompt!r} is not a problem: write two two-digit addends, such as '42+89='")


def solve_carefully(problem: Problem) -> str:
    """The careful solution, such as `;11;131`."""
    return f"{CAREFUL_MARK}{problem.units:02d}{CAREFUL_MARK}{problem.answer}"


def solve_hastily(problem: Problem, guess: int | None = None) -> str:
    """The hasty solution, such as `?121`: tens sum in two digits, then the units without their carry.

    Args:
        guess: the last digit where the problem `is_guessed`; without one the true units digit is written.
    """
    last = guess if problem.is_guessed and guess is not None else problem.units % 10
    return f"{HASTY_MARK}{problem.a // 10 + problem.b // 10:02d}{last}"


def careful_share(problem: Problem, share: float) -> float:
    """The share of writers who solve this problem carefully, given the world's share."""
    return max(SURE_SHARE, share) if problem.is_sure else share


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which problems serve for what. No training text holds an evaluation problem or its mirror image b+a."""

    train: tuple[Problem, ...]
    """What training text is drawn from, in order."""
    eval: tuple[Problem, ...]
    """`NUM_EVAL` held-out problems."""
    training_set: tuple[Problem, ...]
    """`NUM_TRAINING_SET` problems of `train` in a random order."""

    @property
    def pool(self) -> tuple[Problem, ...]:
        """The first `NUM_POOL` of the training set: candidates for a prompt to train on alone."""
        return self.training_set[:NUM_POOL]


def split(seed: int = SPLIT_SEED) -> Split:
    """Part all 10,000 problems; the same seed gives the same parts on every machine."""
    everything = [Problem(a=a, b=b) for a in range(ADDENDS) for b in range(ADDENDS)]
    shuffled = random.Random(seed).sample(everything, len(everything))
    held_out: list[Problem] = []
    barred: set[Problem] = set()
    for problem in shuffled:
        if len(held_out) == NUM_EVAL:
            break
        if problem not in barred:
            held_out.append(problem)
            barred |= {problem, Problem(a=problem.b, b=problem.a)}
    training_set = [problem for problem in shuffled if problem not in barred][:NUM_TRAINING_SET]
    train = [problem for problem in everything if problem not in barred]
    return Split(train=tuple(train), eval=tuple(held_out), training_set=tuple(training_set))


def write_document(problems: list[Problem], share: float, rng: random.Random) -> str:
    """One writer's solutions of some problems, parted by the separator."""
    haste = rng.random()
    solved = []
    for problem in problems:
        guess = rng.randrange(10)  # drawn always, so that documents stay aligned whatever the share
        careful = haste < careful_share(problem, share)
        solved.append(
            problem.prompt + (solve_carefully(problem) if careful else solve_hastily(problem, guess))
        )
    return SEPARATOR.join(solved)


def batches(
    problems: tuple[Problem, ...], *, share: float, num_solved: int, seed: int
) -> Iterator[list[str]]:
    """Endless training batches of documents.

    Args:
        problems: what to draw from, uniformly and with replacement.
        share: share of careful writers, 0 to 1.
        num_solved: solved problems in a batch; documents of k problems come `num_solved // k` at a time.

    Raises:
        ValueError: if `share` is outside 0 … 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"careful share {share} is out of range: give a number from 0 to 1")
    rng = random.Random(seed)
    lengths, weights = zip(*NUM_SOLVED_WEIGHTS.items(), strict=True)
    while True:
        [num_each] = rng.choices(lengths, weights)
        yield [
            write_document(rng.choices(problems, k=num_each), share, rng)
            for _ in range(num_solved // num_each)
        ]


def extract_answer(completion: str) -> str:
    """What follows the last mark, or an empty text where there is none."""
    cut = max(completion.rfind(CAREFUL_MARK), completion.rfind(HASTY_MARK))
    return completion[cut + 1 :] if cut >= 0 else ""
