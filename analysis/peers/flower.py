"""Flower's simulation. `--way weights`: as its tutorials do, weights travel to each client and back and FedAvg averages
them. `--way scalars`: what a careful user writes for this method, scalars travel and each worker process keeps a model
of its own, on which it makes the steps that it has not seen."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from workload import Model, arguments, batches, kept, round_done

given = arguments()
FOLDER, ROUNDS, CLIENTS = given.folder, given.rounds, len(batches(given.folder))
client, server = ClientApp(), ServerApp()


@client.train("scalars")
def scalars_of(message: Message, context: Context) -> Message:
    model, data = kept(FOLDER)
    past = message.content["past"]["scalars"]
    for round in range(model.done, len(past)):
        model.step(round, past[round])
    scalar = model.scalar(*data[int(context.node_config["partition-id"])], len(past))
    return Message(RecordDict({"told": MetricRecord({"scalar": scalar})}), reply_to=message)


@client.train()
def weights_of(message: Message, context: Context) -> Message:
    model, data = kept(FOLDER)
    model.model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    round = int(message.content["config"]["server-round"]) - 1
    scalar = model.scalar(*data[int(context.node_config["partition-id"])], round)
    model.step(round, scalar)
    told = MetricRecord({"scalar": scalar, "num-examples": 1})
    return Message(RecordDict({"arrays": ArrayRecord(model.model.state_dict()), "metrics": told}), reply_to=message)


class Told(FedAvg):
    """FedAvg that says when a round is done."""

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        came = list(replies)
        round_done(server_round - 1, [reply.content["metrics"]["scalar"] for reply in came])
        return super().aggregate_train(server_round, came)


@server.main()
def serve(grid: Grid, context: Context) -> None:
    while len(nodes := list(grid.get_node_ids())) < CLIENTS:  # they come one by one
        time.sleep(0.05)
    if given.way == "weights":
        arrays = ArrayRecord(Model(FOLDER).model.state_dict())
        Told(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=CLIENTS, min_available_nodes=CLIENTS).start(
            grid, arrays, num_rounds=ROUNDS
        )
        return
    past: list[float] = []
    for round in range(ROUNDS):
        asked = [Message(RecordDict({"past": ConfigRecord({"scalars": past})}), dst_node_id=node,
                         message_type=f"{MessageType.TRAIN}.scalars") for node in nodes]  # fmt: skip
        found = [reply.content["told"]["scalar"] for reply in grid.send_and_receive(asked)]
        past.append(sum(found) / len(found))
        round_done(round, found)


run_simulation(server, client, CLIENTS, backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}})
