"""The typed configuration of a run: one schema, validated before anything starts."""
