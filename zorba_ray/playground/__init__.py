"""The embedded default: a small language, a small OPT pretrained on it, and a task that the model half solves."""

from pathlib import Path

MODEL = Path(__file__).parent / "model"  # an ordinary from_pretrained folder, made by playground.pretrain

__all__ = ["MODEL"]
