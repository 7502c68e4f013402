"""MLflow: a run in the store that MLFLOW_TRACKING_URI names; a resumed run goes on in its own."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from zorba_ray.tracking.tracker import Begun

MOST_VALUE = 500  # characters of a parameter, in every version's store
BATCH = 100  # parameters that one call takes


class Mlflow:
    """By the client, which has no state that others in this process share."""

    def __init__(self, begun: Begun):
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self._client, self._metric = MlflowClient(), Metric
        known = begun.own("mlflow.run")
        if begun.rounds and known.exists():
            self._run = known.read_text(encoding="utf-8")
            self._client.update_run(self._run, status="RUNNING")
            return
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", "zorba_ray")
        found = self._client.get_experiment_by_name(experiment)
        place = found.experiment_id if found else self._client.create_experiment(experiment)
        self._run = self._client.create_run(place, run_name=begun.name).info.run_id
        known.write_text(self._run, encoding="utf-8")
        params = [Param(name, value[:MOST_VALUE]) for name, value in begun.config.items()]
        for start in range(0, len(params), BATCH):
            self._client.log_batch(self._run, params=params[start : start + BATCH])

    def log(self, rounds: int, values: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        self._client.log_batch(self._run, [self._metric(name, value, now, rounds) for name, value in values.items()])

    def close(self) -> None:
        self._client.set_terminated(self._run)


def open(begun: Begun) -> Mlflow:
    return Mlflow(begun)
