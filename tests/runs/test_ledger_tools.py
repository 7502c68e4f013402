"""The ledger's tools on tiny runs: what is whole is found whole, and every kind of harm is found where it was done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from runs.toy_runs import ESTIMATED
from world.world_settings import EVERYTHING
from world.world_settings import run as world_run

from zorba_ray.commands.replay import main
from zorba_ray.config.errors import ConfigError
from zorba_ray.ledger import LedgerWriter, read_ledger
from zorba_ray.messages import SharedStep
from zorba_ray.records.schema import ClientRecord, RoundRecord, narrowed, to_records, to_table
from zorba_ray.records.stream import parts, read_part, table
from zorba_ray.runs.audit import audit
from zorba_ray.runs.config import load_config
from zorba_ray.runs.difference import difference
from zorba_ray.runs.evaluate import evaluate
from zorba_ray.runs.folder import CONFIG, LEDGER
from zorba_ray.runs.past import read_past
from zorba_ray.runs.replay import best_round, replayed_model
from zorba_ray.runs.simulate import simulate
from zorba_ray.runs.summary import FILE, read_summary
from zorba_ray.runs.verify import Verified, verify

TINY = [
    "clients.count=3", "clients.batch=2", "rounds=3", "zo.directions=2", "allocation.plan=cyclic", "evaluation.every=2",
    "evaluation.examples=16", "task.train_examples=64",
]  # fmt: skip
KINDS = {
    "estimated": [*ESTIMATED, "rounds=4"],
    "shared": ["participation.clients=2"],
    "draws that remember": ["method=fedkseed", "fedkseed.draw=pro", "fedkseed.size=8", "zo.local_steps=1"],
    "gradients": ["method=fedavg", "clients.budgets.classes=[{name: all, budget: 60 MiB}]"],
    "few bits": ["model.frozen=nf4", "allocation.plan=one_each"],
}
Harm = Callable[[Path], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a run of this kind, which nobody may change."""
    place = tmp_path_factory.mktemp("runs")

    def make(kind: str) -> Path:
        folder = place / kind.replace(" ", "_")
        if not folder.exists():
            if kind == "world":
                world_run(folder, [*EVERYTHING, "participation.choice=uniform", "faults.byzantine=0.4"])
            else:
                simulate(load_config(None, [*TINY, *KINDS[kind]]), folder)
        return folder

    return make


def wrong(verified: Verified) -> dict[str, str]:
    return {check.name: " | ".join(check.wrong) for check in verified.checks if check.wrong}


def rewrite(folder: Path, change: Callable[[Any], Any]) -> None:
    """Records, one by one, as they come out of `change`; None: gone."""
    for part in parts(folder):
        changed = [change(record) for record in to_records(read_part(part))]
        rows = narrowed(to_table([each for each in changed if each is not None]), part.kind)
        pq.write_table(rows, part.path, write_page_checksum=True)


@pytest.mark.parametrize("kind", ["shared", "draws that remember", "gradients", "world", "estimated"])
def test_a_run_that_nobody_touched_is_whole(made: Callable[[str], Path], kind: str) -> None:
    found = verify(made(kind))
    assert found.whole, wrong(found)
    rounds = next(check.found for check in found.checks if check.name == "rounds")
    assert rounds.startswith(f"{read_summary(made(kind)).rounds_done} made again")
    assert ("late reports among them" in rounds) == (kind == "world")


def one_scalar(folder: Path, change: Callable[[float], float] = lambda scalar: 1.01 * scalar) -> None:
    """Of one client in the last round."""

    def changed(each: Any) -> Any:
        if not isinstance(each, ClientRecord) or (each.round, each.client, each.status) != (3, 1, "ok"):
            return each
        return replace(each, scalars=[each.scalars[0], change(each.scalars[1])])

    rewrite(folder, changed)


def one_bit(folder: Path) -> None:
    """The least that a scalar can change; in float32 coefficients that may be lost."""
    one_scalar(folder, lambda scalar: float(np.nextafter(np.float32(scalar), np.float32(np.inf))))


def one_total(folder: Path) -> None:
    rewrite(folder, lambda each: replace(each, bytes_up=1) if isinstance(each, RoundRecord) and each.round else each)


def one_client(folder: Path) -> None:
    rewrite(folder, lambda each: replace(each, client=0) if isinstance(each, ClientRecord) else each)


def no_round(folder: Path) -> None:
    rewrite(folder, lambda each: None if each.round == 1 and each.kind != "evaluation" else each)


def one_byte(folder: Path) -> None:
    content = bytearray((folder / LEDGER).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / LEDGER).write_bytes(content)


def torn(folder: Path) -> None:
    (folder / LEDGER).write_bytes((folder / LEDGER).read_bytes()[:-3])


def another_rate(folder: Path) -> None:
    text = (folder / CONFIG).read_text(encoding="utf-8")
    (folder / CONFIG).write_text(text.replace("  lr: 0.003", "  lr: 0.004"), encoding="utf-8")


def another_sum(folder: Path) -> None:
    body = json.loads((folder / FILE).read_text(encoding="utf-8"))
    (folder / FILE).write_text(json.dumps(body | {"flops": body["flops"] + 1}), encoding="utf-8")


@pytest.mark.parametrize(
    ("harm", "check", "said"),
    [
        (one_scalar, "rounds", "round 3: the recorded scalars make another step than the ledger's"),
        (one_bit, "rounds", "round 3: scalar_mean is recorded as"),
        (one_total, "rounds", "round 1: bytes_up is recorded as 1"),
        (one_client, "rounds", "round 0: clients [0, 0, 0] are recorded, and the seed chooses [0, 1, 2]"),
        (no_round, "records", "round 1 is in the ledger and not in the records"),
        (one_byte, "ledger", "damaged at line"),
        (torn, "ledger", "its last line is torn"),
        (another_rate, "config", "step.lr was 0.003"),
        (another_sum, "summary", "flops is"),
    ],
)
def test_harm_is_found_where_it_was_done(
    made: Callable[[str], Path], tmp_path: Path, harm: Harm, check: str, said: str
) -> None:
    shutil.copytree(made("estimated"), tmp_path / "run")
    harm(tmp_path / "run")
    found = wrong(verify(tmp_path / "run"))
    assert said in found[check]


def test_tensors_are_looked_into(made: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(made("gradients"), folder)
    first, second, third = sorted((folder / "tensors").iterdir())
    first.write_bytes(first.read_bytes()[:-1] + b"\0\0")
    second.rename(second.with_name("round-000009.safetensors"))
    assert set(found := wrong(verify(folder))) == {"tensors"}
    assert found["tensors"].count(" | ") == 2 and third.name not in found["tensors"]
    for part in (f"{first.name} is damaged", f"{second.name} is missing", "round-000009.safetensors belongs to no"):
        assert part in found["tensors"]


@pytest.mark.parametrize("kind", ["shared", "draws that remember", "gradients", "few bits"])
def test_a_client_does_to_the_bit_what_was_recorded_of_it(made: Callable[[str], Path], kind: str) -> None:
    folder = made(kind)
    last = [row for row in table(folder).to_pylist() if row["kind"] == "client" and row["round"] == 2]
    found = audit(folder, last[-1]["client"], 2)
    assert found.same and not found.elsewhere, found
    assert ("2 scalars" in found.compared) == (kind != "gradients")
    assert any("the ledger's tensors" in each for each in found.compared) == (kind == "gradients")


def test_a_liars_lie_is_audited_as_the_server_received_it(made: Callable[[str], Path]) -> None:
    folder = made("world")
    rows = [row for row in table(folder).to_pylist() if row["kind"] == "client"]
    lied = next(row for row in rows if row["lied"] and row["round"])
    assert audit(folder, lied["client"], lied["round"]).same
    dropped = next(row for row in rows if row["status"] == "dropped")
    with pytest.raises(ConfigError, match=r"sent nothing in round \d \(dropped\)"):
        audit(folder, dropped["client"], dropped["round"])


def test_an_audit_tells_what_differs(made: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(made("draws that remember"), folder)
    rewrite(
        folder,
        lambda each: replace(each, scalars=[each.scalars[0], -each.scalars[1]], loss=each.loss + 1)
        if isinstance(each, ClientRecord) else each,
    )
    found = audit(folder, 1, 0)
    assert not found.same and len(found.differs) == 2
    assert found.differs[0].startswith("1 of 2 scalars, first number 1: ") and found.differs[1].startswith("loss: ")
    for client, round, said in ((7, 0, "client 7 took no part in round 0; its clients are 0, 1, 2"),
                                (0, 3, "has rounds 0 to 2, and no round 3")):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            audit(folder, client, round)


def test_runs_part_where_one_number_differs(made: Callable[[str], Path], tmp_path: Path) -> None:
    folder, other = made("estimated"), tmp_path / "other"
    shutil.copytree(folder, other)
    assert difference(folder, other).alike
    ledger = read_ledger(folder / LEDGER)
    (other / LEDGER).unlink()
    writer = LedgerWriter(other / LEDGER, ledger.header)
    for entry in ledger.entries[:3]:
        step = entry.step
        assert isinstance(step, SharedStep)
        if entry.round == 2:
            block = int(np.flatnonzero(step.coefficients[:, 1])[-1])
            coefficients = step.coefficients.copy()
            coefficients[block, 1] *= 2
            step = replace(step, coefficients=coefficients)
        writer.append(replace(entry, step=step))
    writer.close()
    found = difference(folder, other)
    assert (found.round, found.rounds, found.causes) == (2, (4, 3), ()) and found.coefficient is not None
    first = found.coefficient
    assert first.direction is not None and (first.direction.round, first.direction.direction) == (2, 1)
    assert first.block == ledger.header.blocks[block].name and first.differing == 1
    assert first.values[1] == pytest.approx(2 * first.values[0])
    assert found.reports == ("all 3 clients sent the same scalars",)


def test_the_likely_cause_is_what_was_recorded_otherwise(made: Callable[[str], Path], tmp_path: Path) -> None:
    folder = made("shared")
    simulate(load_config(None, [*TINY, *KINDS["shared"], "zo.mu=2e-3"]), tmp_path / "mu")
    found = difference(folder, tmp_path / "mu")
    assert found.round == 0 and found.causes == ("config: zo.mu is 0.001 against 0.002",)
    assert "clients sent other scalars" in found.reports[0]
    simulate(load_config(None, [*TINY, *KINDS["shared"], "rounds=2"]), tmp_path / "shorter")
    assert difference(folder, tmp_path / "shorter").alike, "neither contradicts the other"
    gradients = difference(folder, made("gradients"))
    assert gradients.header and gradients.round == 0 and any("method is" in each for each in gradients.causes)
    body = asdict(read_summary(tmp_path / "mu"))
    body["environment"]["libraries"]["torch"] = "1.0"
    (tmp_path / "mu" / FILE).write_text(json.dumps(body))
    assert any(each.startswith("environment: torch ") for each in difference(folder, tmp_path / "mu").causes)
    with pytest.raises(ConfigError, match="no ledger at"):
        difference(folder, tmp_path / "nothing")


def test_an_evaluation_is_the_runs_own_and_other_data_another(made: Callable[[str], Path], tmp_path: Path) -> None:
    folder = made("shared")
    for row in read_past(folder).evaluations.to_pylist():
        found = evaluate(folder, row["round"])
        assert (found.accuracy, found.loss, found.examples) == (row["accuracy"], row["loss"], row["examples"])
        assert found.recorded == (row["accuracy"], row["loss"])
    rows = "\n".join(f"the room was {word}\t{label}" for word, label in (("clean", 1), ("dirty", 0), ("loud", 0)))
    (tmp_path / "mine.tsv").write_text(f"text\tlabel\n{rows}\n", encoding="utf-8")
    mine = [f"task.{part}={tmp_path / 'mine.tsv'}" for part in ("train", "test")]
    other = evaluate(folder, None, ["task.name=files", "task.text=[text]", "task.words=[terrible, great]", *mine])
    assert (other.examples, other.rounds, other.task) == (3, 3, "files")
    with pytest.raises(ConfigError, match="only keys of task and evaluation"):
        evaluate(folder, None, ["step.lr=1"])


def test_the_best_round_is_the_best_evaluated_one(made: Callable[[str], Path]) -> None:
    rows = read_past(made("shared")).evaluations.to_pylist()
    best = best_round(made("shared"))
    assert all((-row["accuracy"], row["loss"]) >= (-b["accuracy"], b["loss"]) for row in rows
               for b in rows if b["round"] == best)  # fmt: skip
    assert replayed_model(made("shared"), "best").rounds == best


def test_a_client_has_what_it_downloaded(made: Callable[[str], Path]) -> None:
    folder = made("shared")
    asked = {(row["client"], row["round"]) for row in table(folder).to_pylist() if row["kind"] == "client"}
    for client in range(3):
        rounds = max((t for n, t in asked if n == client), default=0)
        has = replayed_model(folder, client=client)
        assert (has.rounds, has.sha256) == (rounds, replayed_model(folder, rounds).sha256)
    with pytest.raises(ConfigError, match="clients 0 to 2, and no client 3"):
        replayed_model(folder, client=3)
    few, plain = replayed_model(made("few bits"), client=1), replayed_model(made("few bits"), 2)
    pairs = zip(few.model.blocks, plain.model.blocks, strict=True)
    changed = [not np.array_equal(a.vector, b.vector) for a, b in pairs]
    assert any(changed) and not all(changed), "only what it has not active is in few bits"


def test_each_question_has_one_object_and_a_status(
    made: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(made("shared"))
    shutil.copytree(made("estimated"), tmp_path / "harmed")
    one_total(tmp_path / "harmed")
    client = next(row["client"] for row in table(Path(folder)).to_pylist() if row["kind"] == "client")
    for line, status, name, value in (
        (["--verify"], 0, "whole", True), (["--audit", f"{client},0"], 0, "same", True),
        (["--diff", folder], 0, "alike", True), (["--evaluate", "--round", "best"], 0, "examples", 16),
        (["--round", "2"], 0, "rounds", 2),
    ):  # fmt: skip
        assert main([folder, *line, "--json"]) == status
        said = capsys.readouterr()
        assert json.loads(said.out)[name] == value and said.err.strip()
    assert main([str(tmp_path / "harmed"), "--verify"]) == 1
    assert "WRONG" in (out := capsys.readouterr().out) and "1 of 7 checks failed" not in out.splitlines()[0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--verify --diff x", "--diff and --verify are two questions"),
        ("--verify --round 1", "--round does not go with --verify"),
        ("task.name=sst2", "only --evaluate takes keys"),
        ("--audit 3", "--audit takes a client and a round, such as 3,17"),
        ("--audit a,1", "--audit takes a number, not 'a'"),
        ("--round first", "--round takes a number, not 'first'"),
        ("--diff nowhere", "nowhere has no config.yaml"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_line(
    made: Callable[[str], Path], capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    assert main([str(made("estimated")), *line.split()]) == 2
    assert said in (err := capsys.readouterr().err) and err.count("\n") == 1
