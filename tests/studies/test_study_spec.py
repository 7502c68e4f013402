"""What a study file may say, and the one line that says what is wrong with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from zorba_ray.commands.study import check_early
from zorba_ray.config.errors import ConfigError
from zorba_ray.studies.cells import cells, refuse_code
from zorba_ray.studies.spec import Study, find_study, load_study
from zorba_ray.studies.store import begun, resumed

TWO = {"set": ["task.validation_examples=50"], "arms": [{"name": "one"}, {"name": "two", "set": ["zo.shared=false"]}]}


def study_of(folder: Path, arguments: tuple[str, ...] = (), **keys: object) -> Study:
    path = folder / "study-file.yaml"
    path.write_text(yaml.safe_dump({**TWO, **keys}))
    return load_study(path, arguments)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"seedss": [1]}, "no key is called 'seedss'; the nearest is 'seeds'; keys of a run go under `set`"),
        ({"tuning": {"factor": [1]}}, "'tuning.factor'; the nearest is 'tuning.factors'"),
        ({"tuning": 3}, "tuning is a group of keys"),
        ({"arms": [{"name": "one", "preset": []}]}, "'arms.0.preset'; the nearest is 'arms.0.presets'"),
        ({"arms": []}, "arms is"),
        ({"arms": [{"name": "A b"}, {"name": "a-B"}]}, "would share a folder"),
        ({"arms": [{"name": "?"}]}, "letters or digits"),
        ({"only": ["tow"]}, "no arm is called 'tow'; the nearest is 'two'"),
        ({"seeds": []}, "seeds is"),
        ({"seeds": [1, 1]}, "repetitions"),
        ({"seeds": ["x"]}, "seeds"),
        ({"seeds": [0, 1000]}, r"tuning\.seed"),
        ({"metric": "acuracy"}, "accuracy, loss"),
        ({"tuning": {"factors": [0.5, 0]}}, r"tuning\.factors"),
        ({"arms": [{"name": "one", "rates": [1e-3]}]}, "5 different rates"),
        ({"scale": {"key": "clients.count"}}, "together with its values"),
        ({"lifted": "much"}, "not a size"),
        ({"tuning": {"search": "optuna"}}, r"tuning\.by is 'sweep'; it must be tune"),
        ({"tuning": {"by": "tune", "scheduler": "ash"}}, r"tuning\.scheduler cannot be 'ash': it is one of none, asha"),
        ({"cpus": 0}, "not both 0"),
        ({"gpus": 1.5}, "a whole number, or less than 1"),
        ({"address": "ray://head:10001"}, "start it on a node of the cluster"),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, keys: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        study_of(tmp_path, **keys)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"arms": [{"name": "one", "set": ["zo.moo=1"]}]}, r"arm 'one': .*'zo\.moo'; the nearest is 'zo\.mu'"),
        ({"arms": [{"name": "one", "set": ["rounds=0"]}]}, "arm 'one': rounds is 0"),
        ({"arms": [{"name": "one", "presets": ["methods/nothing"]}]}, "no config file 'methods/nothing'"),
        ({"set": []}, "validation_examples"),
        ({"tuning": {"key": "step.rate"}}, r"tuning\.key"),
        ({"scale": {"key": "client.count", "values": ["3"]}}, r"scale: .*'clients\.count'"),
    ],
)
def test_a_mistake_in_a_run_names_the_arm(tmp_path: Path, keys: dict[str, object], told: str) -> None:
    study = study_of(tmp_path, **keys)
    with pytest.raises(ConfigError, match=told):
        cells(study)


def test_arguments_set_the_study_or_else_every_run(tmp_path: Path) -> None:
    study = study_of(tmp_path, ("seeds=[4]", "tuning.rounds=2", "rounds=7", "only=[two]", "zo.mu=1e-2"))
    assert (study.seeds, study.tuning.rounds, study.only) == ([4], 2, ["two"])
    (cell,) = cells(study)
    assert (cell.config.rounds, cell.config.zo.mu, cell.config.zo.shared) == (7, 1e-2, False)
    with pytest.raises(ConfigError, match=r"'tuning\.round'; the nearest is 'tuning\.rounds'"):
        study_of(tmp_path, ("tuning.round=2",))


def test_a_study_is_read_back_from_its_folder(tmp_path: Path) -> None:
    arguments = ("rounds=7", "name=again", f"out={tmp_path / 'out'}")
    study = study_of(tmp_path, arguments, set=["task.validation_examples=50", "name=x-${seed}"])
    with begun(study) as folder:
        assert resumed(folder) == study
    with pytest.raises(ConfigError, match="not the folder of a study"):
        resumed(tmp_path)


def test_an_unknown_study_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="no study file 'nothing'"):
        find_study("nothing")


@pytest.mark.parametrize(("keys", "told"), [
    (["task.name=files", "task.train=/no/a.csv", "task.test=/no/b.csv", "task.text=[text]"], "no file /no/a.csv"),
    (["method=fedspzo", "fedspzo.at=6"], "the model has 6 blocks"),
    (["model.path=/no/model"], "there is no folder /no/model"),
])  # fmt: skip
def test_what_an_arm_would_stumble_on_is_said_before_the_first_run(
    tmp_path: Path, keys: list[str], told: str
) -> None:
    study = study_of(tmp_path, arms=[{"name": "good"}, {"name": "bad one", "set": keys}])
    with pytest.raises(ConfigError, match=rf"^arm 'bad one': .*{told}"):
        check_early(study, cells(study))
    check_early(replace(study, only=["good"]), cells(replace(study, only=["good"])))


def test_code_that_somebody_elses_study_names_is_asked_for(tmp_path: Path) -> None:
    own, mark = tmp_path / "mine.py", tmp_path / "ran"
    own.write_text(f"open({str(mark)!r}, 'w').close()\n")
    (tmp_path / "preset.yaml").write_text(f"method_file: {own}\n")
    for named in ({"set": [f"method_file={own}"]}, {"presets": [str(tmp_path / "preset.yaml")]}):
        with pytest.raises(ConfigError, match=r"study\.yaml names code that would run here, method_file=.*mine\.py"):
            refuse_code(study_of(tmp_path, arms=[{"name": "a", **named}]), tmp_path / "study.yaml", trusted=False)
    remote = study_of(tmp_path, arms=[{"name": "a", "set": ["model.trust_remote_code=true"]}])
    with pytest.raises(ConfigError, match=r"model\.trust_remote_code; look at it, then say --trust-code"):
        refuse_code(remote, tmp_path / "study.yaml", trusted=False)
    refuse_code(remote, tmp_path / "study.yaml", trusted=True)
    refuse_code(study_of(tmp_path), tmp_path / "study.yaml", trusted=False)
    assert not mark.exists()
