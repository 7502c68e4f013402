"""What passes between server and clients: a round's plan, reports, a step, the header they refer to. NumPy only."""

from zorba_ray.messages.header import BlockInfo, Header
from zorba_ray.messages.report import Report, VectorLayout, nothing_from
from zorba_ray.messages.reports import Reports, clients_of, scalars_of
from zorba_ray.messages.round_plan import MEAN, RoundPlan, Rule
from zorba_ray.messages.step import CombinedStep, PrivateStep, SharedStep, Step, TensorStep, Vectors, no_step
from zorba_ray.messages.tally import Tally, add_tallies, slices

__all__ = [
    "MEAN", "BlockInfo", "CombinedStep", "Header", "PrivateStep", "Report", "Reports", "RoundPlan", "Rule",
    "SharedStep", "Step", "Tally", "TensorStep", "VectorLayout", "Vectors", "add_tallies", "clients_of", "no_step",
    "nothing_from", "scalars_of", "slices",
]  # fmt: skip
