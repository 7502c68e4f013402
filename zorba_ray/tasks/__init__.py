"""Data, prompts, labels and shards."""
