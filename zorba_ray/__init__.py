"""zorba_ray: zeroth-order federated fine-tuning of language models, simulated at scale on Ray."""

__version__ = "0.1.0"
