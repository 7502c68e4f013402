"""Training methods. A method says which probes a client does, what it reports, and how reports become a step."""

from zorba_ray.methods.method import FirstOrder, Method, Update, ZeroOrder
from zorba_ray.methods.table import METHODS, method_of, register

__all__ = ["METHODS", "FirstOrder", "Method", "Update", "ZeroOrder", "method_of", "register"]
