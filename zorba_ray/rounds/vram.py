"""What a run's clients need of VRAM: the memory model, given what the run's method does."""

from __future__ import annotations

import numpy as np

from zorba_ray.config.schema import Config
from zorba_ray.config.units import parse_bytes
from zorba_ray.engine.memory import VramModel
from zorba_ray.engine.predict import gradient_model, vram_model
from zorba_ray.methods import FirstOrder, local_steps, method_of
from zorba_ray.model.model import BlockModel
from zorba_ray.rounds.draw import plan_round

STATE = {"adamw": 8, "sgd": 0}  # bytes of an optimiser's state for each trained number; momentum has 4 more


def vram_of(config: Config, model: BlockModel, tokens: int) -> VramModel:
    """For mini-batches of texts with so many tokens."""
    examples, context = config.clients.batch, parse_bytes(config.clients.budgets.context)
    method = method_of(config)
    if isinstance(method, FirstOrder):
        local = config.options
        momentum = 4 if local.optimizer == "sgd" and local.momentum > 0 else 0
        steps = 2 if local.epochs else local_steps(config)  # passes over the data are taken for several steps
        state = STATE[local.optimizer] + momentum
        return gradient_model(model, examples, tokens, state, steps, context, local.checkpointing)
    plan = plan_round(config, 0, [0])
    paths = method.probes(plan, 0, np.ones(len(model.blocks), dtype=np.bool_))
    return vram_model(model, examples, tokens, paths, plan.local_steps, context)
