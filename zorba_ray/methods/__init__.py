"""Training methods, a file each: which keys it has, which probes a client does, what it reports, how reports become a
step."""

from zorba_ray.config.schema import key
from zorba_ray.methods.fit import check, ignored
from zorba_ray.methods.method import FirstOrder, Forked, LocalOptions, Memory, Method, Traffic, Update, ZeroOrder
from zorba_ray.methods.registry import (
    METHODS,
    carried_out,
    forked_of,
    has_gradients,
    has_read,
    kind_of,
    local_steps,
    method_of,
    register,
)

__all__ = [
    "METHODS", "FirstOrder", "Forked", "LocalOptions", "Memory", "Method", "Traffic", "Update", "ZeroOrder",
    "carried_out", "check", "forked_of", "has_gradients", "has_read", "ignored", "key", "kind_of", "local_steps",
    "method_of", "register",
]  # fmt: skip
