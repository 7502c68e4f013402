"""A Ray that a command starts is for this machine and this user alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sessions

LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
HOST = """
import json, os, sys
from pathlib import Path
import psutil
from zorba_ray.runtime.alone import write_access
from zorba_ray.runtime.connect import connect
said = connect("local")
path = write_access(Path(sys.argv[1]))
mine = {process.pid for process in psutil.process_iter() if os.getsid(process.pid) == os.getsid(0)}
ears = {each.laddr.ip for each in psutil.net_connections("inet") if each.pid in mine and each.status == "LISTEN"}
print(json.dumps([said, str(path), sorted(ears)]), flush=True)
sys.stdin.read()
"""
GUEST = """
import sys
from zorba_ray.config.errors import ConfigError
from zorba_ray.runtime.connect import ask
try:
    ask(sys.argv[1], judge_token=True)
except ConfigError as error:
    print(error)
else:
    print("taken")
"""


def ask_as(address: str, **token: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in sessions.HIDDEN}
    line = [sys.executable, "-c", GUEST, address]
    return subprocess.run(line, capture_output=True, text=True, check=True, env=environment | token).stdout


@pytest.mark.ray
@pytest.mark.slow
def test_it_listens_on_the_loopback_and_asks_for_a_token_that_only_its_owner_can_read(tmp_path: Path):
    environment = {name: value for name, value in os.environ.items() if name not in sessions.HIDDEN}
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True, env=environment,
    )  # fmt: skip
    try:
        assert host.stdout is not None
        said, path, ears = json.loads(host.stdout.readline())
        assert said == [] and "127.0.0.1" in ears and set(ears) <= LOOPBACK
        assert Path(path) == tmp_path / "ray.json" and Path(path).stat().st_mode & 0o777 == 0o600
        access = json.loads(Path(path).read_text())
        assert len(access["RAY_AUTH_TOKEN"]) == 64 and access["address"].startswith("127.0.0.1:")
        token = {name: access[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
        assert ask_as(access["address"], **token) == "taken\n"
        assert "refused the token" in ask_as(access["address"], **{**token, "RAY_AUTH_TOKEN": "0" * 64})
        assert "refused the token, or there was none" in ask_as(access["address"], RAY_AUTH_MODE="disabled")
    finally:
        host.communicate("")
