"""Apple's pfl: an algorithm of one's own on its simulated backend, which runs a round's clients in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import FederatedAlgorithm
from pfl.common_types import Population
from pfl.context import CentralContext
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import AlgorithmHyperParams
from pfl.internal.ops import pytorch_ops
from pfl.internal.ops.selector import set_framework_module
from pfl.metrics import Metrics
from pfl.model.base import Model as PflModel
from pfl.stats import MappedVectorStatistics
from workload import Model, arguments, batches, round_done

set_framework_module(pytorch_ops)
given = arguments()
clients = batches(given.folder)


@dataclass(frozen=True)
class Asked(AlgorithmHyperParams):
    rounds: int


class Shared(PflModel):
    """The one model of the process."""

    def __init__(self) -> None:
        self.inner = Model(given.folder)

    def apply_model_update(self, statistics: MappedVectorStatistics) -> tuple[Shared, Metrics]:
        self.inner.step(self.inner.done, float(statistics["scalar"][0]) / statistics.weight)
        return self, Metrics()


class TwoPoint(FederatedAlgorithm):
    def get_next_central_contexts(self, model: Shared, iteration: int, algorithm_params: Asked, *_: Any) -> Any:
        if iteration == algorithm_params.rounds:
            return None, model, Metrics()
        asked = CentralContext(iteration, False, len(clients), Population.TRAIN, algorithm_params, None, seed=iteration)
        return (asked,), model, Metrics()

    def simulate_one_user(self, model: Shared, user_dataset: Dataset, central_context: CentralContext) -> Any:
        scalar = model.inner.scalar(*user_dataset.raw_data, central_context.current_central_iteration)
        return MappedVectorStatistics({"scalar": torch.tensor([scalar])}, weight=1.0), Metrics()

    def process_aggregated_statistics(self, central_context: Any, metrics: Any, model: Shared, statistics: Any) -> Any:
        model, told = model.apply_model_update(statistics)
        mean = float(statistics["scalar"][0]) / statistics.weight
        round_done(central_context.current_central_iteration, [mean] * len(clients))
        return model, told


def dataset_of(user: int) -> Dataset:
    return Dataset(raw_data=list(clients[user]), user_id=str(user))


users = FederatedDataset(dataset_of, get_user_sampler("minimize_reuse", np.arange(len(clients)).tolist()))
TwoPoint().run(Asked(given.rounds), SimulatedBackend(users, users), Shared(), None, send_metrics_to_platform=False)
