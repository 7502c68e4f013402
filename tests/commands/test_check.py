"""`zorba-ray check`: on this machine all that applies holds, and what is broken is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zorba_ray.commands.check import main
from zorba_ray.config.errors import ConfigError
from zorba_ray.runs.folder import LEDGER
from zorba_ray.runtime import check
from zorba_ray.runtime.check import Line, compared


def broken(monkeypatch: pytest.MonkeyPatch, change: Callable[[str, dict[str, Any]], dict[str, Any]]) -> None:
    """Two nodes, of which the second says something else."""
    nodes = [{"NodeManagerAddress": name, "NodeID": name, "Alive": True, "Resources": {}} for name in ("one", "two")]
    monkeypatch.setattr(check, "cluster_nodes", lambda: nodes)
    monkeypatch.setattr(
        check, "on_every_node", lambda work, *rest, **more: {n: change(n, work(*rest)) for n in ("one", "two")}
    )


def test_a_node_with_another_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, lambda node, told: told)
    assert check.versions()[0] and check.versions()[1].startswith("2 nodes: ")
    broken(monkeypatch, lambda node, told: told | ({"torch": "1.0"} if node == "two" else {}))
    held, told = check.versions()
    assert not held and told.startswith("two has torch 1.0, and here it is ")


def test_other_noise_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, lambda node, told: told)
    assert check.noise(0) == (True, "2 devices bit-equal to the reference")

    def one_bit(node: str, told: dict[str, bytes]) -> dict[str, bytes]:
        bits = told["gaussian"]
        return told | ({"gaussian": bytes([bits[0] ^ 1]) + bits[1:]} if node == "two" else {})

    broken(monkeypatch, one_bit)
    assert check.noise(0) == (False, "other bits than the reference's: gaussian on two")


def test_ledgers_that_differ_and_memory_that_is_off_do_not_hold(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def write(config: Any, folder: Path) -> None:
        folder.mkdir()
        (folder / LEDGER).write_text(config.placement)

    monkeypatch.setattr(check, "one_round", write)
    assert check.placements(tmp_path, 0)[0] is False
    row = {"client": 3, "predicted_bytes": 100 * 2**20, "allocated_bytes": 105 * 2**20}
    assert compared([row]) == (True, "1 clients; furthest off client 3: 100 MiB predicted, 105 MiB allocated (+5%)")
    assert compared([row, row | {"client": 4, "allocated_bytes": 80 * 2**20}])[0] is False
    assert compared([row | {"allocated_bytes": None}]) == (False, "no client's memory was measured")


def test_what_cannot_be_tried_does_not_hold() -> None:
    def work() -> tuple[bool, str]:
        raise ConfigError("no answer within 60 s from two")

    assert check.tried("noise", work) == Line("noise", False, "no answer within 60 s from two")


def test_a_wrong_config_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rounds=none"]) == 2 and "rounds" in capsys.readouterr().err


@pytest.mark.slow
def test_this_machine_does_what_it_is_promised_to_do(local_ray: None, capsys: pytest.CaptureFixture[str]) -> None:
    """And one round that goes wrong changes the exit status."""
    assert main(["--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["holds"] and [line["what"] for line in told["lines"] if line["holds"] is None] == [
        "memory cap", "bus", "memory",
    ]  # fmt: skip
    assert main(["--json", "clients.budgets.classes=[{name: all, budget: 1 MiB}]", "runtime.device=cuda"]) == 1
    failed = [line for line in json.loads(capsys.readouterr().out)["lines"] if line["holds"] is False]
    assert [line["what"] for line in failed] == ["packing"] and "has no GPU" in failed[0]["told"]
