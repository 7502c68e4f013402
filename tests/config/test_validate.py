from __future__ import annotations

import pytest

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.runs.config import checked, ignored, load_config

IMPOSSIBLE = [
    (["clients.count=0"], "clients.count"),
    (["clients.count=-3"], "clients.count"),
    (["clients.count=16777215"], "clients.count"),
    (["participation.clients=21"], "clients.count, which is 20"),
    (["participation.clients=-1"], "participation.clients"),
    (["participation.clients=some"], "not a number of clients"),
    (["participation.clients=1.5"], "not a whole number"),
    (["participation.clients=0 %"], "participation.clients"),
    (["participation.available=0"], "participation.available"),
    (["participation.dropout=1"], "participation.dropout"),
    (["participation.up=0.5"], "participation.up"),
    (["participation.availability=trace"], "participation.trace"),
    (["participation.deadline=3"], "fleet.devices is empty"),
    (["participation.over=0.5"], "fleet.devices is empty"),
    (["participation.deadline=-1"], "participation.deadline"),
    (["participation.availability=trace", "participation.trace=a.csv", "participation.trace_unit=seconds"],
     "fleet.devices"),
    (["participation.choice=poisson", "participation.over=0.5", "fleet.devices=[{forward: 1}]"], "poisson"),
    (["fleet.devices=[{up: 1e6}]"], "fleet.devices.0.forward"),
    (["fleet.devices=[{forward: 1, up: -1}]"], "fleet.devices.0.up"),
    (["fleet.devices=[{forward: 1}, {forward: 2}]"], "one for each budget class"),
    (["fleet.spread=-1"], "fleet.spread"),
    (["faults.min_clients=0"], "faults.min_clients"),
    (["faults.byzantine=1.5"], "faults.byzantine"),
    (["faults.outlier=-1"], "faults.outlier"),
    (["faults.outlier=5", "method=fedkseed"], "faults.outlier does not work with method=fedkseed"),
    (["step.trim=0.5"], "step.trim"),
    (["step.clip_norm=0"], "step.clip_norm"),
    (["step.aggregate=median", "zo.shared=false"], "zo.shared=false"),
    (["step.aggregate=median", "method=fedkseed"], "method=fedkseed"),
    (["participation.late=keep", "method=fedkseed"], "late report"),
    (["participation.late=keep", "step.aggregate=median"], "late reports join a mean"),
    (["privacy.noise=-1"], "privacy.noise"),
    (["privacy.delta=0"], "privacy.delta"),
    (["privacy.noise=1"], "step.weights=equal"),
    (["privacy.noise=1", "step.weights=equal", "zo.shared=false"], "zo.shared=false"),
    (["privacy.noise=1", "step.weights=equal", "method=fedspzo"], "method=fedspzo"),
    (["privacy.noise=1", "step.weights=equal", "step.aggregate=median"], "step.aggregate=median"),
    (["privacy.noise=1", "step.weights=equal", "faults.outlier=3"], "faults.outlier"),
    (["privacy.noise=1", "step.weights=equal", "allocation.statistics=estimated"], "allocation.statistics"),
    (["privacy.noise=1", "step.weights=equal", "participation.late=keep"], "late reports join a mean"),
    (["clients.batch=0"], "clients.batch"),
    (["clients.alpha=0"], "clients.alpha"),
    (["clients.partition=natural", "task.name=files"], "clients.partition_column"),
    (["zo.mu=0"], "zo.mu"),
    (["task.prompt=It was"], "never sees the data"),
    (["task.words=['', great]"], "task.words"),
    (["zo.mu=1e-300"], "moves no float32 weight"),
    (["clients.budgets.classes=[{name: a}]"], "clients.budgets.classes.0.budget"),
    (["clients.budgets.median=8GiB", "clients.budgets.sigma=1e9"], "no sizes of memory"),
    (["clients.budgets.median=1KiB", "clients.budgets.sigma=10"], "no sizes of memory"),
    (["clients.budgets.median=8GiB", "clients.budgets.levels=1000000000"], "clients.budgets.levels"),
    (["faults.min_clients=21"], "clients.count, which is 20"),
    (["participation.clients=2", "participation.choice=samples"], "count the numbers of samples twice"),
    (["step.normalise=expected", "method=fedkseed"], "method=fedkseed"),
    (["step.normalise=expected", "zo.shared=false"], "zo.shared=false"),
    (["step.normalise=expected", "participation.clients=2", "participation.choice=samples", "step.weights=equal"],
     "participation.choice=samples"),
    (["zo.mu=-1e-3"], "zo.mu"),
    (["zo.mu=nan"], "finite"),
    (["zo.mu=inf"], "finite"),
    (["zo.directions=0"], "zo.directions"),
    (["zo.directions=65537"], "65536"),
    (["step.lr=-1"], "step.lr"),
    (["step.lr=inf"], "finite"),
    (["step.warmup=101"], "rounds, which is 100"),
    (["step.warmup=-1"], "step.warmup"),
    (["step.final=1.5"], "step.final"),
    (["rounds=0"], "rounds"),
    (["rounds=16777217"], "rounds"),
    (["seed=-1"], "seed"),
    (["seed=18446744073709551616"], "seed"),
    (["name=a/b"], "'/'"),
    (["name=a\\b"], "name"),
    (["name="], "name"),
    (["name=.."], "name"),
    (["name='a\\nb'"], "name"),
    (["evaluation.every=0"], "evaluation.every"),
    (["guard.loss_multiple=1"], "guard.loss_multiple"),
    (["clients.budgets.classes=[]"], "one of classes, explicit and median"),
    (["clients.budgets.classes=[{}]", "clients.budgets.median=1 GiB"], "clients.budgets.classes=[]"),
    (["clients.budgets.median=1 GiB", "clients.budgets.explicit=[1 GiB]"], "both explicit and median"),
    (["clients.budgets.explicit=[1 GiB, 2 GiB]"], "clients.count=2"),
    (["clients.budgets.explicit=[x]", "clients.count=1", "allocation.coverage=1"], "clients.budgets.explicit.0"),
    (["clients.budgets.classes.1.budget=lots"], "clients.budgets.classes.1.budget"),
    (["clients.budgets.classes.1.budget=0 GiB"], "clients.budgets.classes.1.budget"),
    (["clients.budgets.classes.1.share=0"], "clients.budgets.classes.1.share"),
    (["clients.budgets.classes=[{name: a, budget: 1 GiB}, {name: a, budget: 1 GiB}]"], "two classes have that name"),
    (["clients.budgets.median=3 apples"], "clients.budgets.median"),
    (["clients.budgets.sigma=-1"], "clients.budgets.sigma"),
    (["model.trainable=groups"], "model.groups"),
    (["model.groups=['(']"], "regular expression"),
    (["model.lora.rank=0"], "model.lora.rank"),
    (["task.name=files"], "task.train"),
    (["task.name=files", "task.train=a", "task.test=b"], "task.text"),
    (["task.words=[one]"], "task.words"),
    (["task.words=[one, one]"], "task.words"),
    (["task.prompt={text"], "task.prompt"),
    (["task.text=[a]", "task.prompt={b} it was"], "{b}"),
    (["task.max_tokens=0"], "task.max_tokens"),
    (["allocation.order=[]"], "allocation.order"),
    (["allocation.order=[vram, vram]", "allocation.epsilon=[0, 0]"], "repetitions"),
    (["allocation.order=[vram]"], "allocation.epsilon"),
    (["allocation.epsilon=[-1, 0, 0]"], "allocation.epsilon.0"),
    (["allocation.coverage=21"], "clients.count"),
    (["allocation.coverage=-2"], "allocation.coverage"),
    (["allocation.gradient=[1e13]"], "allocation.gradient.0"),
    (["allocation.smoothness=[1e13]"], "allocation.smoothness.0"),
    (["step.lr=1e7"], "step.lr"),
    (["clients.batch=1048577"], "clients.batch"),
    (["clients.budgets.median=9999999999999 PiB"], "clients.budgets.median"),
    (["model.lora.alpha=1e300"], "model.lora.alpha"),
    (["runtime.threads=1000000"], "runtime.threads"),
    (["task.text=[text, label]", "task.name=sst2"], "the answer would stand in the question"),
    (["task.prompt={text!x}"], "conversion"),
    (["task.prompt={text:d}"], "format code"),
    (["task.prompt={}", "task.text=[text]"], "{}"),
    (["allocation.coverage_per_block=[1, 21]"], "allocation.coverage_per_block.1"),
    (["allocation.smoothness=[0]"], "allocation.smoothness.0"),
    (["allocation.gradient=[1, -1]"], "allocation.gradient.1"),
    (["allocation.time_limit=0"], "allocation.time_limit"),
    (["runtime.threads=0"], "runtime.threads"),
    (["runtime.actors=-1"], "runtime.actors"),
    (["runtime.address=somewhere"], "runtime.address"),
    (["runtime.hidden_memory=1 apple"], "runtime.hidden_memory"),
]
POSSIBLE = [
    ["participation.clients=20"],
    ["participation.clients=2.5 %"],
    ["participation.deadline=3", "fleet.devices=[{forward: 1e12}]", "participation.late=keep"],
    ["participation.over=0.2", "fleet.devices=[{forward: 1e12}]"],
    ["privacy.noise=1", "step.weights=equal", "participation.choice=poisson"],
    ["step.aggregate=trimmed", "step.trim=0.2", "faults.byzantine=0.2"],
    ["clients.budgets.median=8 GiB"],
    ["clients.budgets.median=8 GiB", "clients.budgets.sigma=5"],
    ["participation.choice=samples", "step.weights=equal", "participation.clients=2"],
    ["step.normalise=expected", "participation.clients=2", "participation.availability=markov"],
    ["faults.min_clients=20"],
    ["clients.budgets.explicit=[1 GiB, 2 GiB]", "clients.count=2"],
    ["step.lr=0"],
    ["step.warmup=100"],
    ["zo.directions=65536"],
    ["seed=18446744073709551615"],
    ["name=opt 1.3B (α=1)"],
    ["allocation.order=[vram]", "allocation.epsilon=[0]"],
    ["runtime.address=ray://head:10001"],
    ["runtime.address=10.0.0.1:6379"],
    ["task.name=files", "task.train=a.tsv", "task.test=b.tsv", "task.text=[a, b]", "task.prompt={a} {{or}} {b}"],
    ["model.trainable=groups", "model.groups=['fc[12]']"],
    ["task.prompt={text!s:>20}"],
    ["allocation.coverage=-1", "clients.count=1"],
]


def test_the_default_is_valid_and_ignores_nothing() -> None:
    checked(load_config(None))
    assert ignored(load_config(None)) == []


@pytest.mark.parametrize(("overrides", "said"), IMPOSSIBLE, ids=str)
def test_the_impossible_is_refused_in_one_line(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked(load_config(None, overrides))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("overrides", POSSIBLE, ids=" ".join)
def test_the_possible_is_not(overrides: list[str]) -> None:
    checked(load_config(None, overrides))


def test_choices_are_checked_in_configs_made_in_python_too() -> None:
    with pytest.raises(ConfigError, match=r"placement cannot be 'cohrt'.*did you mean 'cohort'"):
        checked(Config(placement="cohrt"))


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["model.lora.rank=4"], "model.lora"),
        (["clients.partition=iid", "clients.alpha=2"], "clients.alpha"),
        (["step.final=0.1"], "step.final"),
        (["participation.up=3"], "participation.up"),
        (["participation.late=keep"], "participation.late"),
        (["fleet.spread=1"], "fleet.spread"),
        (["faults.lie=nan"], "faults.lie"),
        (["faults.byzantine=0.1", "faults.lie_scale=3"], "faults.lie_scale"),
        (["step.trim=0.2"], "step.trim"),
        (["step.clip_norm=2"], "step.clip_norm"),
        (["privacy.clip=2"], "privacy.clip"),
    ],
)
def test_keys_without_effect_are_named(overrides: list[str], key: str) -> None:
    (line,) = ignored(load_config(None, overrides))
    assert line.startswith(f"{key} has no effect: ")
