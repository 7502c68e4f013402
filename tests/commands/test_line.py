from __future__ import annotations

import pytest

from zorba_ray.commands.help import WIDTH, help_text
from zorba_ray.commands.line import RUN, Command, Program, parse_command
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.keys import all_keys
from zorba_ray.methods import kind_of
from zorba_ray.runs.config import checked, load_config


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("", Command()),
        ("my.yaml", Command("my.yaml")),
        ("rounds=3 my.yaml zo.mu=1", Command("my.yaml", ("rounds=3", "zo.mu=1"))),
        ("--resume runs/a --print-config", Command(flags={"--resume": "runs/a", "--print-config": ""})),
        ("--resume=runs/a=b name=c=d", Command(None, ("name=c=d",), {"--resume": "runs/a=b"})),
        ("a.yaml rounds=3 b.yaml decomfl", Command("a.yaml", ("rounds=3",), more=("b.yaml", "decomfl"))),
        ("./a=b/my.yaml", Command("./a=b/my.yaml")),
        ("clients.budgets.classes[0].budget=1GiB", Command(None, ("clients.budgets.classes[0].budget=1GiB",))),
        ("--nonsense --help", Command(flags={"--help": ""})),
        ("-h", Command(flags={"--help": ""})),
    ],
)
def test_arguments_are_sorted(line: str, command: Command) -> None:
    assert parse_command(line.split()) == command


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--rsume x", "the nearest is --resume"),
        ("--printconfig", "the nearest is --print-config"),
        ("--rounds=3", "keys are set without dashes: rounds=3"),
        ("--clients.count 3", "keys are set without dashes: clients.count=…"),
        ("--resume", "--resume takes a value: --resume RUN"),
        ("--print-config=yes", "takes no value"),
        ("rounds 3", "'rounds' is a key; set it with rounds=…"),
        ("rounds = 3", "'rounds' is a key"),
        ("a.yaml round", "the nearest key is rounds"),
        ("a.yaml ''", "comes after CONFIG"),
    ],
)
def test_what_is_not_understood_is_refused_with_the_nearest(line: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_command(line.split())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_command_without_keys_takes_one_argument() -> None:
    program = Program("python -m zorba_ray.report", "Make the report again.", argument="RUN")
    assert parse_command(["runs/a=b"], program) == Command("runs/a=b")
    with pytest.raises(ConfigError, match="only one RUN"):
        parse_command(["a", "b"], program)
    assert "key=value" not in help_text(program) and "clients.count" not in help_text(program)


def test_help_lists_every_key_with_meaning_type_and_default() -> None:
    text = help_text()
    words = " ".join(text.split())
    for key in all_keys(kind_of("")):
        assert key.help.strip()
        assert key.name in text
        assert " ".join(key.help.split()) in words
        for choice in key.choices:
            assert choice in text
    for flag in RUN.flags:
        assert flag.name in text
    assert "[integer; default 20]" in words
    assert "[dirichlet | iid | natural | quantity | classes | sorted; default dirichlet]" in words


def test_help_fits_a_terminal() -> None:
    examples = {f"  {RUN.name} {arguments}" for arguments, _ in RUN.examples}
    assert all(len(line) <= WIDTH for line in help_text().splitlines() if line not in examples)


def test_examples_in_help_hold() -> None:
    import shlex

    for arguments, _ in RUN.examples:
        command = parse_command(shlex.split(arguments))
        if command.config_path in (None, "opt125m_sst2"):
            checked(load_config(command.config_path, command.overrides, command.more))


@pytest.mark.parametrize("argument", ["", " "])
def test_an_empty_argument_does_not_start_the_default_run(argument: str) -> None:
    with pytest.raises(ConfigError, match="an empty argument"):
        parse_command([argument, "rounds=3"])
