from __future__ import annotations

import shlex

import pytest
import typer.main

from orchestrator.cli import build_app, main
from orchestrator.cli.examples import EXAMPLES

COMMANDS = typer.main.get_command(build_app()).commands
VERBS = [name for name, command in COMMANDS.items() if not command.hidden]


def test_every_verb_has_an_example_and_no_other_has():
    assert sorted(VERBS) == sorted(EXAMPLES)


@pytest.mark.parametrize("verb", VERBS)
def test_help_ends_with_examples_that_the_verb_understands(verb, capsys):
    assert main([verb, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in EXAMPLES[verb]:
        assert f"emsweep {verb} {words}" in shown
        COMMANDS[verb].make_context(verb, shlex.split(words))  # raises for an option or a word too many
