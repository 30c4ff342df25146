"""What is used of Typer without its promise still holds for the version installed."""

import pytest
import typer

from orchestrator.cli import main
from orchestrator.cli.typer_internals import CHECKED_VERSION, UsageError


def test_the_installed_typer_is_the_one_that_was_checked():
    installed = typer.__version__
    assert installed.startswith(f"{CHECKED_VERSION}."), (
        f"check orchestrator.cli.typer_internals for {installed}"
    )


@pytest.mark.parametrize("words", [["nonsense"], ["plan", "--nonsense"], ["replay"], ["table", "x", "--by"]])
def test_every_mistake_in_the_words_is_told_in_one_line_with_status_2(words, capsys):
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_wrong_value_is_an_error_of_the_same_base():
    assert issubclass(typer.BadParameter, UsageError)
    assert UsageError is not Exception
