"""The world's text is what its rules say, and no evaluation item leaks into training."""

import random
from collections import Counter
from itertools import islice

import pytest

from trainers.tiny import world
from trainers.tiny.world import Problem


def schoolbook(a: int, b: int) -> str:
    """Addition digit by digit with a carry, independently of Python's `+` on the addends."""
    units, carry = (a % 10 + b % 10) % 10, a % 10 + b % 10 > 9
    tens = a // 10 + b // 10 + carry
    return f"{tens:02d}{units}"


def test_careful_solution_is_the_units_sum_then_the_right_answer():
    assert world.solve_carefully(Problem(a=42, b=89)) == ";11;131"
    assert world.solve_carefully(Problem(a=3, b=4)) == ";07;007"


def test_hasty_solution_drops_the_carry():
    assert world.solve_hastily(Problem(a=42, b=89)) == "?121"
    assert world.solve_hastily(Problem(a=17, b=22)) == "?039"


@pytest.mark.parametrize("seed", range(3))
def test_careful_is_always_right_and_hasty_exactly_where_nothing_is_carried(seed):
    rng = random.Random(seed)
    for _ in range(500):
        problem = Problem(a=rng.randrange(100), b=rng.randrange(100))
        right = schoolbook(problem.a, problem.b)
        assert problem.answer == right
        assert world.extract_answer(world.solve_carefully(problem)) == right
        assert (world.extract_answer(world.solve_hastily(problem)) == right) is not problem.carries


def test_hasty_writers_guess_only_where_the_problem_starts_with_nine():
    assert world.solve_hastily(Problem(a=95, b=22), guess=0) == "?110"
    assert world.solve_hastily(Problem(a=85, b=22), guess=0) == "?107"


def test_problem_survives_its_prompt():
    for problem in (Problem(a=0, b=0), Problem(a=7, b=99), Problem(a=42, b=89)):
        assert world.parse(problem.prompt) == problem
    assert world.parse("31+42=?073 57+68=") == Problem(a=57, b=68)


@pytest.mark.parametrize("text", ["", "42+89", "4+89=", "42-89=", "42+89=;", "ab+cd="])
def test_text_that_is_no_problem_is_refused_with_the_form_to_use(text):
    with pytest.raises(ValueError, match=r"42\+89="):
        world.parse(text)


@pytest.mark.parametrize("addends", [(100, 0), (0, -1)])
def test_addend_out_of_range_is_refused(addends):
    with pytest.raises(ValueError, match="0 to 99"):
        Problem(a=addends[0], b=addends[1])


def test_answer_follows_the_last_mark_and_is_empty_without_one():
    assert world.extract_answer(";11;131") == "131"
    assert world.extract_answer("?121;") == ""
    assert world.extract_answer("131") == ""


def test_no_evaluation_problem_or_its_mirror_image_is_trained_on():
    parts = world.split()
    assert len(set(parts.eval)) == world.NUM_EVAL
    assert len(set(parts.pool)) == world.NUM_POOL
    held_out = set(parts.eval) | {Problem(a=p.b, b=p.a) for p in parts.eval}
    assert held_out.isdisjoint(parts.train)
    assert set(parts.pool) <= set(parts.train)
    assert len(held_out) + len(parts.train) == 100 * 100


def test_held_out_problems_have_the_shares_of_the_world():
    held_out = world.split().eval
    assert sum(p.carries for p in held_out) == pytest.approx(0.45 * len(held_out), abs=3)
    assert sum(p.is_sure for p in held_out) == pytest.approx(0.1 * len(held_out), abs=3)
    assert sum(p.is_guessed for p in held_out) == pytest.approx(0.1 * len(held_out), abs=3)


def test_same_seed_gives_the_same_text_and_another_seed_does_not():
    train = world.split().train

    def text(seed):
        return list(islice(world.batches(train, share=0.6, num_solved=16, seed=seed), 20))

    assert text(3) == text(3)
    assert text(3) != text(4)


def test_documents_hold_only_the_alphabet_and_no_evaluation_problem():
    parts = world.split()
    barred = {p.prompt for p in parts.eval}
    for batch in islice(world.batches(parts.train, share=0.6, num_solved=64, seed=0), 100):
        for document in batch:
            assert set(document) <= set(world.ALPHABET)
            assert not barred & {f"{solved[:6]}" for solved in document.split(world.SEPARATOR)}


def test_every_solved_problem_of_the_text_follows_its_own_rendering():
    for batch in islice(world.batches(world.split().train, share=0.5, num_solved=60, seed=1), 30):
        for solved in " ".join(batch).split(world.SEPARATOR):
            problem, solution = world.parse(solved[:6]), solved[6:]
            allowed = {world.solve_carefully(problem)}
            allowed |= {world.solve_hastily(problem, guess) for guess in range(10)}
            assert solution in allowed


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
def test_modes_come_in_the_shares_asked_for(share):
    counts: dict[str, Counter] = {"0": Counter(), "5": Counter(), "9": Counter()}
    for batch in islice(world.batches(world.split().train, share=share, num_solved=300, seed=0), 200):
        for solved in " ".join(batch).split(world.SEPARATOR):
            if solved[0] in counts:
                counts[solved[0]][solved[6]] += 1
    careful = {digit: marks[";"] / marks.total() for digit, marks in counts.items()}
    assert careful["0"] == pytest.approx(world.SURE_SHARE, abs=0.02)
    assert careful["5"] == pytest.approx(share, abs=0.03)
    assert careful["9"] == pytest.approx(share, abs=0.03)


def test_one_writer_keeps_to_one_mode_on_ordinary_problems():
    ordinary = [p for p in world.split().train if not p.is_sure]
    rng = random.Random(0)
    for _ in range(300):
        document = world.write_document(rng.sample(ordinary, 3), 0.6, rng)
        assert len({solved[6] for solved in document.split(world.SEPARATOR)}) == 1


def test_share_out_of_range_is_refused():
    with pytest.raises(ValueError, match="from 0 to 1"):
        next(world.batches(world.split().train, share=1.2, num_solved=4, seed=0))
