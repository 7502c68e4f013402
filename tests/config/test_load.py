from __future__ import annotations

import dataclasses
import difflib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zorba_ray.config import load
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.keys import OLD_NAMES, all_keys, find
from zorba_ray.config.load import to_yaml
from zorba_ray.config.schema import BudgetClass, Config
from zorba_ray.config.shipped import CONFIGS
from zorba_ray.methods import kind_of
from zorba_ray.runs.config import checked, load_config

KIND = kind_of("")
LEAVES = [key for key in all_keys(KIND) if not key.is_section and "i" not in key.path]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(lambda text: text != "???")
VALUES: dict[type, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**70), 2**70),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    str: TEXT | st.sampled_from(["${seed}", "\\${x}", "a\\\\${b}${", "no", "1e-3", "null", "[1]", "007", "2024-01-01"]),
}


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Any values of the right types, allowed or not; no file of theirs is run."""
    return dataclasses.replace(draw(sections(KIND())), method_file="")


@st.composite
def sections(draw: st.DrawFn, section: Any) -> Any:
    from zorba_ray.config.keys import children

    values: dict[str, Any] = {}
    for name, key in children(type(section)).items():
        if key.is_section:
            values[name] = draw(sections(getattr(section, name)))
        elif dataclasses.is_dataclass(key.element):
            values[name] = draw(st.lists(sections(key.element()), max_size=3))
        elif key.choices:
            one = st.sampled_from(key.choices)
            values[name] = draw(st.lists(one, max_size=3) if key.element else one)
        elif key.element:
            values[name] = draw(st.lists(VALUES[key.element], max_size=3))
        else:
            values[name] = draw(VALUES[key.type])
    return dataclasses.replace(section, **values)


def likeness(wrong: str, name: str) -> float:
    def ratio(one: str, other: str) -> float:
        return difflib.SequenceMatcher(None, one, other).ratio()

    return max(ratio(wrong, name), ratio(wrong.rpartition(".")[2], name.rpartition(".")[2]))


def refused(*overrides: str, path: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


@settings(max_examples=15)
@given(config=configs(), explained=st.booleans())
def test_yaml_round_trip(tmp_path: Path, config: Config, explained: bool) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config, explained), encoding="utf-8")
    assert load.load_config(path, kind_of=kind_of) == config


def test_the_default_file_is_the_schema_spelled_out() -> None:
    assert load_config("default") == load_config(None) == KIND()
    command = [sys.executable, "-m", "zorba_ray.commands.defaults"]
    printed = subprocess.run(command, capture_output=True, check=True).stdout
    same = (CONFIGS / "default.yaml").read_bytes() == printed
    assert same, "the schema changed: run python -m zorba_ray.commands.defaults > configs/default.yaml"


def test_defaults_are_not_shared_between_configs() -> None:
    KIND().clients.budgets.classes[0].budget = "1 B"
    KIND().allocation.epsilon.append(1.0)
    assert KIND() == load_config(None)


OURS = sorted([*CONFIGS.glob("*.yaml"), *CONFIGS.glob("methods/*.yaml")])


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_every_config_that_comes_along_is_valid(path: Path) -> None:
    checked(load_config(path))


@settings(max_examples=150)
@given(data=st.data())
def test_a_mistyped_key_is_refused_and_the_right_one_suggested(data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(LEAVES))
    last = key.path[-1]
    at = data.draw(st.integers(0, len(last) - 1))
    kind = data.draw(st.sampled_from(["drop", "double", "swap"]))
    wrong = {
        "drop": last[:at] + last[at + 1 :],
        "double": last[: at + 1] + last[at:],
        "swap": last[: max(at - 1, 0)] + last[max(at - 1, 0) : at + 1][::-1] + last[at + 1 :],
    }[kind]
    path = ".".join([*key.path[:-1], wrong])
    if not wrong or wrong[0].isdigit() or any(path == ".".join(other.path) for other in all_keys(KIND)):
        return
    message = refused(f"{path}=1")
    assert f"no key is called {path!r}" in message
    suggested = message.split("'")[-2]
    assert find(KIND, tuple(suggested.split(".")))
    if suggested != key.name:  # zo.m may have meant zo.mu or model.lora: then both are as near
        assert likeness(path, suggested) >= likeness(path, key.name)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("lr", "step.lr"), ("mu", "zo.mu"), ("learning.lr", "step.lr"), ("client.count", "clients.count"),
     ("round", "rounds"), ("clients.budgets.classes.1.bugdet", "clients.budgets.classes.1.budget"), ("Seed", "seed"),
     ("zo.dirs", "zo.directions")],
)  # fmt: skip
def test_suggestions(wrong: str, right: str) -> None:
    assert refused(f"{wrong}=1") == f"command line: no key is called {wrong!r}; the nearest is {right!r}"


@pytest.mark.parametrize(("old", "new"), OLD_NAMES.items())
def test_a_key_that_moved_is_refused_with_its_new_name(old: str, new: str) -> None:
    assert refused(f"{old}=1") == f"command line: the key {old!r} is now called {new!r}"
    assert not any(key.name == old for key in all_keys(KIND)) and find(KIND, tuple(new.split(".")))


@pytest.mark.parametrize("key", LEAVES, ids=lambda key: key.name)
def test_every_key_refuses_what_is_not_its_type(key: Any) -> None:
    assert key.name in refused(f"{key.name}={{a: b}}") if key.type is not str else True
    if key.type in (int, float, bool):
        for text in ("word", "", "[1]", "null", "~", "1.5.2"):
            message = refused(f"{key.name}={text}")
            assert key.name in message and key.expected in message
    elif key.element:
        assert "list" in refused(f"{key.name}=word")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("rounds=1.5", "rounds takes an integer, not '1.5'"),
        ("allocation.epsilon=[0.1, b]", "allocation.epsilon.1 takes a number, not 'b'"),
        ("clients.budgets.classes=[{name: a, share: x}]", "clients.budgets.classes.0.share takes a number, not 'x'"),
        ("clients.budgets.classes=[{nmae: a}]", "the nearest is 'clients.budgets.classes.0.name'"),
        ("clients.budgets.classes.7.budget=1 GiB", "has 3 entries, numbered from 0"),
        ("task.words.0=x", "has 0 entries"),
        ("zo=3", "zo is a group of keys"),
        ("rounds.x=3", "no key is called 'rounds.x'"),
        ("zo={mu: 1, mu: 2}", "zo.mu is set twice"),
        ("method=zorbo", "one of zorba"),
        ("placement=cohrt", "did you mean 'cohort'?"),
        ("allocation.order=[vram,compte]", "did you mean 'compute'?"),
        ("rounds", "'rounds' is not key=value"),
        ("=3", "does not begin with a key"),
        ("rounds=[1", "not valid YAML"),
        ("rounds=${name}", "rounds: "),
        ("rounds=${nothing}", "'nothing' not found"),
        ("rounds=???", "still to be given"),
        ("name=???", "still to be given"),
        ("name=a${b", "begins a reference"),
    ],
)
def test_refusals_say_what_and_where(override: str, said: str) -> None:
    message = refused(override)
    assert message.startswith("command line: ")
    assert said in message


def test_values_are_typed_by_the_schema_not_by_their_looks() -> None:
    config = load_config(None, ["task.words=[no, yes]", "name=007", "out=1e-3", "zo.mu=1e-3", "task.prompt={text}: x"])
    assert config.task.words == ["no", "yes"]
    assert (config.name, config.out, config.zo.mu, config.task.prompt) == ("007", "1e-3", 1e-3, "{text}: x")
    assert load_config(None, ["name='a b'"]).name == "a b"
    assert load_config(None, ["seed=18446744073709551615"]).seed == 2**64 - 1


def test_overrides_nest_and_the_last_one_holds() -> None:
    config = load_config(None, ["zo={mu: 0.5, directions: 3}", "zo.mu=0.25", "zo.shared=no"])
    assert (config.zo.mu, config.zo.directions, config.zo.shared) == (0.25, 3, False)
    here = "clients.budgets.classes"
    config = load_config(None, [f"{here}=[{{name: a, budget: 2 GiB}}, {{budget: 1 GiB}}]", f"{here}[1].share=3"])
    wanted = [BudgetClass(name="a", budget="2 GiB"), BudgetClass(budget="1 GiB", share=3.0)]
    assert config.clients.budgets.classes == wanted


def test_references_follow_other_keys() -> None:
    assert load_config(None, ["name=opt-${seed}", "seed=7"]).name == "opt-7"
    assert load_config(None, ["allocation.probe_clients=${clients.count}"]).allocation.probe_clients == 20


def test_default_budget_classes_give_way_to_another_form_and_given_ones_do_not() -> None:
    assert load_config(None, ["clients.budgets.median=8 GiB"]).clients.budgets.classes == []
    both = load.load_config(
        None, ["clients.budgets.median=8 GiB", "clients.budgets.classes.0.share=1"], kind_of=kind_of
    )
    with pytest.raises(ConfigError, match=r"clients\.budgets\.classes=\[\]"):
        checked(both)


def test_errors_in_files_name_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    cases = {
        "rounds: 3\nzo:\n  mu: fast\n": (3, "zo.mu takes a number, not 'fast'"),
        "rounds: 3\nzo:\n  mew: 1\n": (3, "no key is called 'zo.mew'; the nearest is 'zo.mu'"),
        "rounds: 3\nrounds: 4\n": (2, "rounds is set twice"),
        "rounds: 3\n\tseed: 1\n": (2, "not valid YAML"),
        "clients:\n  budgets:\n    classes:\n    - name: a\n      share: lots\n": (5, "classes.0.share takes a number"),
        "zo: 3\n": (1, "zo is a group of keys"),
        "method: sgd\n": (1, "one of zorba"),
        "? [a]\n: 1\n": (1, "a key is a word"),
    }
    for text, (line, said) in cases.items():
        path.write_text(text)
        message = refused(path=path)
        assert message.startswith(f"{path}:{line}: ") and said in message, message
    for text in ("- a\n", "word", "a: 1\n---\nb: 2\n", "x: &x [*x]\n"):
        path.write_text(text)
        assert str(path) in refused(path=path)
    path.write_bytes(b"\xff\xfe")
    assert "not UTF-8 text" in refused(path=path)


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    path, mark = tmp_path / "a.yaml", tmp_path / "ran"
    path.write_text(f"name: !!python/object/apply:os.system ['touch {mark}']\n")
    assert "name takes text, not a list" in refused(path=path)
    assert not mark.exists()


def test_empty_files_and_sections_set_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    for text in ("", "# nothing\n", "zo:\n  # mu: 3\n", "{}\n"):
        path.write_text(text)
        assert load_config(path) == KIND()


def test_a_file_may_be_based_on_another(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("rounds: 3\nseed: 4\nzo: {mu: 0.5}\n")
    child = tmp_path / "child.yaml"
    child.write_text("base: base\nseed: 5\n")
    config = load_config(child, ["zo.directions=9"])
    assert (config.rounds, config.seed, config.zo.mu, config.zo.directions) == (3, 5, 0.5, 9)
    (tmp_path / "base.yaml").write_text("base: child.yaml\n")
    assert "circle" in refused(path=child)
    child.write_text("base: nowhere\n")
    assert "nowhere" in refused(path=child)


def test_bare_names_are_looked_up_in_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config("default") == KIND()
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.yaml").write_text("seed: 9\n")
    assert load_config("mine").seed == load_config("mine.yaml").seed == 9
    message = refused(path=Path("nothing"))
    assert "no config file 'nothing'" in message and "mine" in message and "default" in message


def test_dotted_keys_in_a_file_mean_what_they_mean_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "dotted.yaml"
    path.write_text("clients.count: 3\nclients:\n  batch: 4\n  budgets.context: 1 MiB\nzo.mu: 0.5\n")
    config = load_config(path)
    assert (config.clients.count, config.clients.batch, config.clients.budgets.context, config.zo.mu) == (
        3, 4, "1 MiB", 0.5,
    )  # fmt: skip
    path.write_text("zo:\n  mu: 0.5\nzo.mu: 0.25\n")
    assert "dotted.yaml:3: zo.mu is set twice, first at" in refused(path=path)
    path.write_text("zo:\n  mo.mu: 0.5\n")
    assert "dotted.yaml:2: no key is called 'zo.mo.mu'" in refused(path=path)


def test_a_file_that_is_no_config_is_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "secret.yaml"
    path.write_text("root:x:0:0:root:/root:/bin/bash\n" * 40)
    assert "root:x" not in refused(path=path)
    path.write_text("rounds: " + "secret " * 100)
    assert len(refused(path=path)) < 250
