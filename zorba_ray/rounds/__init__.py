"""One federated round: plan, probes, reports, step. Nothing here knows Ray."""
