"""Ray comes up on this machine or a cluster is joined, within seconds or with one line that says why not; and the
driver gets its seat.

Ray itself waits many minutes for a server that is not there, and tells a wrong token only in its log. So one cheap call
asks first.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.runtime.alone import is_alone, start_alone
from zorba_ray.runtime.driver import LISTENING

PATIENCE = 5.0  # seconds that a server may take to answer the first call
ATTEMPTS = 3  # at a Ray Client: its server forks beside gRPC's threads, and some starts fail (Ray issue 63202)
CLIENT = "ray://"
GCS_CALL, CLIENT_CALL = "/ray.rpc.NodeInfoGcsService/GetClusterId", "/ray.rpc.RayletDriver/ClusterInfo"
DRIVER = "zorba-driver-"  # what the names of drivers' actors begin with
HEAD = "node:__internal_head__"  # the resource by which Ray marks the head node
TOKEN = (
    "Give this machine the cluster's token: RAY_AUTH_MODE=token with RAY_AUTH_TOKEN, or with its file in "
    "RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"
)


def connect(address: str) -> list[str]:
    """Start Ray on this machine (`local`), or join a cluster: `auto`, host:port of its head, or ray://host:port. What
    the user should know of it."""
    target = find_cluster(address)
    if target:
        ask(target, judge_token=address != "auto" or "RAY_AUTH_MODE" in os.environ)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "ignore_reinit_error": True}
    attempts = ATTEMPTS if target.startswith(CLIENT) else 1
    for attempt in range(1, attempts + 1):
        try:
            with sigterm_kept():
                if target:
                    ray.init(address=address, **options)
                    return []
                start_alone(options)
            return [] if is_alone() else ["Ray listens on every interface of this machine (docs/security.md)"]
        except ray.exceptions.AuthenticationError as error:
            raise ConfigError(first_sentence(error)) from None
        except Exception as error:  # no connection, no room for another process, or, a plain one, no node in time
            if attempt < attempts and "Initialization failure from server" in str(error):
                continue
            what = f"the Ray cluster at {target} did not take this run" if target else "Ray does not start here"
            raise ConfigError(f"{what}: {last_line(error)}") from None
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def sigterm_kept() -> Iterator[None]:
    """Ray takes SIGTERM over while it starts, at first to leave at once, in the end to dump a C++ stack: where this
    process has a handler of its own, that one stays."""
    handler = signal.getsignal(signal.SIGTERM)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    utils: Any = None
    with suppress(ImportError):
        from ray._private import utils
    taken_by = getattr(utils, "set_sigterm_handler", None)
    if taken_by is not None:
        utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        if taken_by is not None:
            utils.set_sigterm_handler = taken_by
        signal.signal(signal.SIGTERM, handler)


def find_cluster(address: str) -> str:
    """The address that `address` stands for; empty for a Ray of our own."""
    if address == "local":
        return ""
    if address != "auto":
        return address
    found = os.environ.get("RAY_ADDRESS")
    if found:
        return found
    try:
        from ray._private.services import canonicalize_bootstrap_address_or_die
    except ImportError:  # not one of Ray's promises: then ray.init finds it, or says that there is none
        return "auto"
    try:
        return str(canonicalize_bootstrap_address_or_die("auto"))
    except ConnectionError as error:
        raise ConfigError(f"runtime.address=auto: {one_line(error)} {start_one('auto')}") from None


def ask(address: str, judge_token: bool) -> None:
    """One call to the server; ConfigError where none answers, where it is another kind, or where the token is wrong.

    `judge_token` is off where Ray may still find the token by itself.
    """
    try:
        import grpc
        from ray._private.grpc_utils import init_grpc_channel
    except ImportError:  # not one of Ray's promises: then all that is asked is whether anybody is there
        knock(address)
        return
    client = address.startswith(CLIENT)
    try:
        with init_grpc_channel(address.removeprefix(CLIENT)) as channel:
            channel.unary_unary(CLIENT_CALL if client else GCS_CALL)(b"", timeout=PATIENCE)
    except ray.exceptions.AuthenticationError as error:
        raise ConfigError(f"no token for the Ray cluster at {address}: {first_sentence(error)}") from None
    except grpc.RpcError as error:
        status = error.code()
        if status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise ConfigError(f"no Ray cluster answers at runtime.address={address}; {start_one(address)}") from None
        if status == grpc.StatusCode.UNIMPLEMENTED:
            other = "the head's own port; drop ray://" if client else "a Ray Client server; put ray:// before it"
            raise ConfigError(f"runtime.address={address} is {other}") from None
        if status == grpc.StatusCode.UNAUTHENTICATED and judge_token:
            raise ConfigError(f"the Ray cluster at {address} refused the token, or there was none. {TOKEN}") from None


def knock(address: str) -> None:
    """ConfigError where nobody listens at the address."""
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except OSError:
        raise ConfigError(f"no Ray cluster answers at runtime.address={address}; {start_one(address)}") from None


def start_one(address: str) -> str:
    port = " --ray-client-server-port=10001" if address.startswith(CLIENT) else ""
    return f"start one with `ray start --head{port}`, or let the run start its own with runtime.address=local"


def start_driver(driver: type, config: Config, folder: str, resume: bool) -> Any:
    """The driver's actor, beside the front end, so that the run's folder is where the user is; through a Ray Client,
    whose machine is no node, on the cluster's head. Its name is readable and does not collide with another run's."""
    namespace = f"zorba-{uuid.uuid4().hex[:8]}"
    options: dict[str, Any] = {"num_cpus": 0, "name": DRIVER + config.name, "namespace": namespace}
    if through_client():
        options["resources"] = {HEAD: 0.001}
    else:
        here = ray.get_runtime_context().get_node_id()
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(here, soft=False)
    groups: dict[str, Any] = {"concurrency_groups": {LISTENING: 1}}
    remote: Any = ray.remote(**groups)(driver)
    return remote.options(**options).remote(config, folder, resume)


def through_client() -> bool:
    from ray.util import client

    connected: bool = client.ray.is_connected()  # type: ignore[no-untyped-call]
    return connected


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def last_line(error: BaseException) -> str:
    """Of an error that may carry a server's traceback, what went wrong in the end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines and "Traceback" in str(error) else one_line(error)


def first_sentence(error: BaseException) -> str:
    """Ray's own words for a token that is missing, without its essay."""
    return f"{one_line(error).split('. ')[0]}. {TOKEN}"
