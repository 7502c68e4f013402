"""How a run scales with its clients: `python analysis/scaling.py [--clients 10 100 …] [--out analysis/results]`.

The embedded task at 10 to 10,000 clients, each time until the clients have sent the same number of scalars, and 100,000
clients whose reports cost nothing. Driver, client actors, ledger and records are real. For each number of clients:

  cpu_ms           CPU time of driver and actors together, a client and round
  ms               wall-clock time, the same; what else goes on on the machine counts here
  driver_share     the driver's part of that CPU time
  gib              most memory of all processes, Ray's own included, a page shared by several once
  bytes            what Ray moves between driver and actors, a client and round: arguments and answers, pickled
  accuracy         of the test data, when so many scalars were sent
  cores, load      of the machine, the load over five minutes: above what a run of two actors makes, others were at work

Rows of another sitting in the same folder stay, unless their number of clients is measured again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from bench_runtime import GIB, Watch, driver, made_up_driver, overrides

from zorba_ray.runtime.driver import Driver
from zorba_ray.runtime.launch import answer

SCALARS = 20_000  # of all clients together: 2 of each, in each of its rounds
SHORT = ("zo.directions=2", "clients.batch=4", "step.lr=3e-3")
NULL = 100_000  # clients that compute nothing
HEAD = ("clients", "rounds", "cpu_ms", "ms", "driver_share", "gib", "bytes", "accuracy", "cores", "load")


def measured(kind: type) -> type:
    """The driver, that also says what it and its actors have used and weighs what it sends and is sent."""

    class Measured(kind):  # type: ignore[valid-type,misc]
        def used(self) -> tuple[float, float]:
            """CPU seconds so far, of this process and of all actors."""
            actors = sum(sum(psutil.Process(member.standing.pid).cpu_times()[:2]) for member in self.site.pool.members)
            return time.process_time(), actors

        def weighed(self) -> int:
            """Bytes of what passes while the next rounds are done, and how many those are."""
            import ray
            from ray.actor import ActorMethod

            passed: list[tuple[int, Any]] = []
            remote = ActorMethod._remote

            def weighing(method: Any, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any) -> Any:
                reference = remote(method, args, kwargs, *rest, **options)
                passed.append((len(ray.cloudpickle.dumps((args, kwargs))), reference))
                return reference

            before = self.session.ledger.rounds
            ActorMethod._remote = weighing
            try:
                self.advance()
            finally:
                ActorMethod._remote = remote
            sizes = [sent + len(ray.cloudpickle.dumps(ray.get(got))) for sent, got in passed]
            return sum(sizes) // max(1, self.session.ledger.rounds - before)

    return Measured


def row(clients: int) -> dict[str, Any]:
    """One number of clients: its scalars (and what is done of more in the same breath), an evaluation, and rounds that
    are weighed."""
    null = clients >= NULL
    rounds = 5 if null else max(1, SCALARS // (2 * clients))
    keys = [each for each in overrides(clients, rounds + 1000, *SHORT) if not each.startswith("evaluation")]
    keys += ["evaluation.every=1000000", f"evaluation.examples={8 if null else 400}"]
    with Watch() as watch, driver(keys, measured(made_up_driver() if null else Driver)) as (actor, _):
        first = done = rounds_in(answer(actor.advance.remote()))  # the evaluation before the first round, and imports
        mine, theirs = answer(actor.used.remote())
        began = time.perf_counter()
        while done < max(rounds, first + 1):
            done += rounds_in(answer(actor.advance.remote()))
        wall = time.perf_counter() - began
        mine_after, theirs_after = answer(actor.used.remote())
        accuracy = None if null else accuracy_now(actor)
        moved = answer(actor.weighed.remote())
    total = mine_after - mine + theirs_after - theirs
    each = 1e3 / (done - first) / clients
    return dict(zip(HEAD, (
        clients, done, each * total, each * wall, (mine_after - mine) / total, watch.peak / GIB, moved / clients,
        accuracy, psutil.cpu_count(), psutil.getloadavg()[1],
    ), strict=True))  # fmt: skip


def rounds_in(events: Sequence[Any]) -> int:
    return sum(getattr(event, "kind", "") == "round" for event in events)


def accuracy_now(actor: Any) -> float:
    """Of the model as it is, on the run's own test examples."""
    tally = answer(actor.__ray_call__.remote(lambda self: self.backend.evaluate()))
    return float(tally.correct / tally.count)


def text(rows: Sequence[dict[str, Any]]) -> str:
    lines = [["" if each[name] is None else f"{each[name]:.4g}" if isinstance(each[name], float) else str(each[name])
              for name in HEAD] for each in rows]  # fmt: skip
    table = [HEAD, *lines]
    widths = [max(len(line[i]) for line in table) for i in range(len(HEAD))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--clients", nargs="+", type=int, default=[10, 100, 1000, 10_000, NULL])
    parser.add_argument("--out", default="analysis/results", help="folder of scaling.json and scaling.txt")
    arguments = parser.parse_args()
    out = Path(arguments.out)
    kept = out / "scaling.json"
    rows = {each["clients"]: each for each in json.loads(kept.read_text())} if kept.is_file() else {}
    for clients in arguments.clients:
        rows[clients] = row(clients)
        print(text([rows[clients]]), flush=True)
        ordered = [rows[each] for each in sorted(rows)]
        kept.write_text(json.dumps(ordered, indent=1) + "\n")
        (out / "scaling.txt").write_text(f"python analysis/scaling.py\n\n{text(ordered)}\n")


if __name__ == "__main__":
    main()
