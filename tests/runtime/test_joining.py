"""A cluster that is joined: a head in a process of its own, with dashboard, Ray Client server and token."""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import ray

from zorba_ray.config.errors import ConfigError
from zorba_ray.runs.folder import LEDGER
from zorba_ray.runtime.connect import connect

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-token-of-the-tests-0123456789abcdef"
TINY = [
    "clients.count=3", "clients.batch=2", "rounds=6", "zo.directions=2", "allocation.plan=cyclic",
    "evaluation.every=6", "evaluation.examples=40", "task.train_examples=200", "task.test_examples=40",
]  # fmt: skip
WITH_TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}


def environment(**changes: str) -> dict[str, str]:
    """This process's, without what names a cluster or a token; `python` and `ray` are this environment's."""
    hidden = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {name: value for name, value in os.environ.items() if name not in hidden} | {"PATH": path} | changes


def free_ports(count: int) -> list[int]:
    """Below those that Ray gives to its workers, and that systems give to clients."""
    ports: list[int] = []
    for port in range(7000 + os.getpid() % 2000, 10_000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                ports.append(port)
        if len(ports) == count:
            return ports
    raise AssertionError("no free ports")


@dataclass
class Head:
    gcs: int
    client: int
    dashboard: int
    process: subprocess.Popen[bytes] = field(repr=False)


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """`ray start --head` as on a real cluster, with token authentication."""
    gcs, client, dashboard, agent = free_ports(4)
    command = [
        "ray", "start", "--head", "--block", f"--port={gcs}", f"--ray-client-server-port={client}", "--num-cpus=2",
        "--include-dashboard=true", f"--dashboard-port={dashboard}",
        f"--dashboard-agent-listen-port={agent}", "--disable-usage-stats",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", *command[1:]],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(**WITH_TOKEN), start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    started = []
    for line in process.stdout:
        started.append(line.decode())
        if "--block" in started[-1]:
            break
    assert process.poll() is None, "".join(started)
    wait_for_port(client)
    wait_for_port(dashboard)
    yield Head(gcs, client, dashboard, process)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)


def wait_for_port(port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.2)
    raise AssertionError(f"nothing listens on {port}")


def run(
    arguments: Sequence[str], env: dict[str, str], cwd: Path, prefix: Sequence[str] = ()
) -> tuple[int, str]:
    """The command in a process of its own: exit status, output."""
    command = [*prefix, sys.executable, "-u", "-m", "zorba_ray.run", *arguments]
    done = subprocess.run(command, env=env, cwd=cwd, text=True, capture_output=True, timeout=200)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The ledger of the same run on a Ray of its own, under token authentication as well."""
    folder = tmp_path_factory.mktemp("local")
    status, output = run([*TINY, f"out={folder / 'run'}"], environment(**WITH_TOKEN), folder)
    assert status == 0, output
    return (folder / "run" / LEDGER).read_bytes()


def said(output: str) -> list[str]:
    """Its lines, but for the stage that it was in."""
    return [line for line in output.splitlines() if line and not line.endswith(" …")]


def test_runs_join_by_the_heads_port_and_through_a_ray_client(head: Head, expected: bytes, tmp_path: Path):
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    by_file = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_file)}
    for name, address, env in [
        ("port", f"127.0.0.1:{head.gcs}", WITH_TOKEN),
        ("client", f"ray://127.0.0.1:{head.client}", by_file),
        ("auto", "auto", {**WITH_TOKEN, "RAY_ADDRESS": f"127.0.0.1:{head.gcs}"}),
    ]:
        status, output = run([*TINY, "--address", address, f"out={tmp_path / name}"], environment(**env), tmp_path)
        assert status == 0 and "points" in output, output
        assert (tmp_path / name / LEDGER).read_bytes() == expected


ELSEWHERE = ["unshare", "--uts", "sh", "-c", 'hostname front-end && exec "$@"', "sh"]  # with another host's name


@pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run([*ELSEWHERE, "true"], capture_output=True).returncode != 0,
    reason="giving a process another host name takes unshare and root",
)
def test_a_front_end_elsewhere_is_told_where_the_folder_is(head: Head, tmp_path: Path):
    """A relative folder is in the home of the driver's user, not where the front end happens to stand."""
    folder = Path.home() / ".cache" / f"zorba-test-{os.getpid()}"
    arguments = [*TINY, "rounds=1", "--address", f"ray://127.0.0.1:{head.client}", f"out=.cache/{folder.name}"]
    try:
        status, output = run(arguments, environment(**WITH_TOKEN), tmp_path, ELSEWHERE)
        assert status == 0, output
        assert f"the run's folder is {folder} on {platform.node()}, where the driver is" in output
        assert f"Report  {folder / 'report.html'}" in output
        assert (folder / LEDGER).exists() and not (tmp_path / ".cache").exists()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_ray_job_submit(head: Head, expected: bytes, tmp_path: Path):
    """configs/cluster/submit.sh, which hands the command to the head's dashboard."""
    env = environment(**WITH_TOKEN, RAY_API_SERVER_ADDRESS=f"http://127.0.0.1:{head.dashboard}")
    script = [str(ROOT / "configs" / "cluster" / "submit.sh"), *TINY, f"out={tmp_path / 'run'}"]
    done = subprocess.run(script, env=env, cwd=tmp_path, text=True, capture_output=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "points" in done.stdout and "succeeded" in done.stdout
    assert (tmp_path / "run" / LEDGER).read_bytes() == expected


@pytest.mark.parametrize(
    ("kind", "env", "message"),
    [
        ("gcs", {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "another"}, "refused the token"),
        ("client", {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "another"}, "refused the token"),
        ("gcs", {"RAY_AUTH_MODE": "disabled"}, "refused the token, or there was none"),
        ("client", {}, "refused the token, or there was none"),
        ("gcs", {"RAY_AUTH_MODE": "token", "HOME": "/nonexistent"}, "couldn't find an authentication token"),
        ("client", {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/nonexistent"}, "/nonexistent"),
        ("swapped", WITH_TOKEN, "put ray:// before it"),
        ("swapped client", WITH_TOKEN, "drop ray://"),
    ],
)
def test_a_wrong_token_or_port_is_one_line(
    head: Head, tmp_path: Path, kind: str, env: dict[str, str], message: str
):
    addresses = {
        "gcs": f"127.0.0.1:{head.gcs}",
        "client": f"ray://127.0.0.1:{head.client}",
        "swapped": f"127.0.0.1:{head.client}",
        "swapped client": f"ray://127.0.0.1:{head.gcs}",
    }
    status, output = run([*TINY, "--address", addresses[kind]], environment(**env), tmp_path)
    assert status == 2 and message in output, output
    assert len(said(output)) == 1, output


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_nobody_at_the_address_is_one_line(address: str, tmp_path: Path):
    (port,) = free_ports(1)
    status, output = run([*TINY, "--address", address.format(port)], environment(), tmp_path)
    assert status == 2
    (line,) = said(output)
    assert re.fullmatch(r"zorba_ray: no Ray cluster answers at runtime\.address=\S+; start one with .*", line)
    assert not (tmp_path / "runs").exists()


def test_an_address_that_swallows_packets_does_not_hang(monkeypatch: pytest.MonkeyPatch):
    """A server that accepts and never answers."""
    monkeypatch.setattr("zorba_ray.runtime.connect.PATIENCE", 1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(ConfigError, match="no Ray cluster answers"):
            connect(f"127.0.0.1:{silent.getsockname()[1]}")
        assert not ray.is_initialized()


@pytest.mark.parametrize("hidden", ["ray._private.grpc_utils", "ray._private.services"])
def test_without_rays_private_parts_an_address_is_still_asked(monkeypatch: pytest.MonkeyPatch, hidden: str):
    monkeypatch.setitem(sys.modules, hidden, None)
    monkeypatch.setattr("zorba_ray.runtime.connect.PATIENCE", 1.0)
    (port,) = free_ports(1)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    for address in ("auto", f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
        with pytest.raises(ConfigError, match="no Ray cluster answers"):
            connect(address)


class Flaky:
    """Stands in for ray.init: fails so many times with Ray's words for a server that did not start."""

    words = "Initialization failure from server:\nTraceback (most recent call last):\n  File …\nRuntimeError: no start"

    def __init__(self, failures: int):
        self.failures, self.calls = failures, 0

    def __call__(self, **options: object) -> None:
        self.calls += 1
        if self.calls <= self.failures:
            raise ConnectionAbortedError(self.words)


@pytest.mark.parametrize(
    ("address", "failures", "calls"),
    [("ray://h:1", 0, 1), ("ray://h:1", 2, 3), ("ray://h:1", 3, -3), ("h:1", 1, -1)],
)
def test_a_ray_client_that_fails_to_start_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, address: str, failures: int, calls: int
):
    """Negative `calls`: given up after so many, with what went wrong in the end."""
    flaky = Flaky(failures)
    monkeypatch.setattr("zorba_ray.runtime.connect.ask", lambda *_, **__: None)
    monkeypatch.setattr(ray, "init", flaky)
    if calls > 0:
        connect(address)
    else:
        with pytest.raises(ConfigError, match=r"did not take this run: RuntimeError: no start$"):
            connect(address)
    assert flaky.calls == abs(calls)


def test_a_ray_of_our_own_that_does_not_come_up_is_one_line(monkeypatch: pytest.MonkeyPatch):
    """On a machine that is too busy, Ray raises an exception of no kind."""

    def late(options: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr("zorba_ray.runtime.connect.start_alone", late)
    with pytest.raises(ConfigError, match=r"^Ray does not start here: The current node timed out during startup\.$"):
        connect("local")
