"""Text out of the environment, `${oc.env:NAME}`: used as it is, written down as the reference that gave it.

A key of a data store or a path of one machine is nobody else's business: config.yaml, reports and what is printed hold
the reference, and whoever goes on with the run has it resolved again. Numbers out of the environment are written down
as they are: they are no secrets, and they decide what a run computes.
"""

from __future__ import annotations

import copy
import dataclasses
import re
import warnings
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

REFERENCE, OPEN, CLOSE = "${oc.env:", "\x02", "\x03"
PLAIN = re.compile(r"[\w/.\x02\x03:,+~-]*")  # what OmegaConf takes without quotes
SEALED = "zorba.env"  # stands in for oc.env where references are wanted and not what they mean


class FromEnvironment(str):
    """A text that came from the environment, at least in part. `reference`: as a config has it."""

    reference: str

    def __new__(cls, value: str, reference: str) -> FromEnvironment:
        made = super().__new__(cls, value)
        made.reference = reference
        return made

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        return str(self), self.reference

    def __repr__(self) -> str:
        return repr(self.reference)


def written(value: Any) -> Any:
    """A value as it may be kept and shown: references in the place of what came from the environment."""
    if isinstance(value, FromEnvironment):
        return value.reference
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(
            value, **{field.name: written(getattr(value, field.name)) for field in dataclasses.fields(value)}
        )
    if isinstance(value, dict):
        return {name: written(entry) for name, entry in value.items()}
    return [written(entry) for entry in value] if isinstance(value, list) else value


def escape(text: str) -> str:
    """Text in which what looks like a reference, ${…}, is taken literally."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def remember(tree: DictConfig, config: Any) -> Any:
    """The config that a tree resolved to, its texts out of the environment marked as such."""
    raw = OmegaConf.to_container(tree, resolve=False)
    if REFERENCE not in str(raw):
        return config
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # OmegaConf 2.4 calls it otherwise, 2.3 does not know that name
        OmegaConf.register_new_resolver(SEALED, sealed_reference, replace=True)
    sealed = cast(DictConfig, OmegaConf.create(exchanged(raw)))
    return marked(config, raw, sealed, "")


def as_far_as_known(tree: DictConfig) -> DictConfig:
    """The tree with references to what the environment lacks as texts, marked by `remember` all the same: for who shows
    or renews a config where the environment is another."""
    literal = copy.deepcopy(tree)

    def leave(node: Any, path: str) -> None:
        for name, entry in node.items() if isinstance(node, dict) else enumerate(node):
            here = f"{path}.{name}" if path else str(name)
            if isinstance(entry, dict | list):
                leave(entry, here)
            elif isinstance(entry, str) and REFERENCE in entry:
                try:
                    OmegaConf.select(tree, here)
                except OmegaConfBaseException:
                    OmegaConf.update(literal, here, escape(entry))

    leave(OmegaConf.to_container(tree, resolve=False), "")
    return literal


def exchanged(raw: Any) -> Any:
    """The same tree with the stand-in for oc.env."""
    if isinstance(raw, dict):
        return {name: exchanged(entry) for name, entry in raw.items()}
    if isinstance(raw, list):
        return [exchanged(entry) for entry in raw]
    return raw.replace(REFERENCE, "${" + SEALED + ":") if isinstance(raw, str) else raw


def sealed_reference(name: str, *default: Any) -> str:
    """${oc.env:NAME,DEFAULT}, with marks for its braces."""
    parts = [name, *("null" if each is None else quoted(str(each)) for each in default)]
    return f"{OPEN}oc.env:{','.join(parts)}{CLOSE}"


def quoted(text: str) -> str:
    return text if PLAIN.fullmatch(text) and text else "'" + text.replace("'", r"\'") + "'"


def marked(value: Any, raw: Any, sealed: DictConfig, path: str) -> Any:
    def inner(name: Any) -> str:
        return f"{path}.{name}" if path else str(name)

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {f.name: marked(getattr(value, f.name), raw[f.name], sealed, inner(f.name))
                 for f in dataclasses.fields(value)}  # fmt: skip
        return dataclasses.replace(value, **found)
    if isinstance(value, list) and isinstance(raw, list):
        return [marked(entry, below, sealed, inner(i)) for i, (entry, below) in enumerate(zip(value, raw, strict=True))]
    if not isinstance(value, str) or not isinstance(raw, str) or "${" not in raw:
        return value
    try:
        text = str(OmegaConf.select(sealed, path))
    except OmegaConfBaseException:  # a resolver that cannot do with a reference in the place of its value
        return FromEnvironment(value, raw)
    if OPEN not in text:
        return value
    return FromEnvironment(value, escape(text).replace(OPEN, "${").replace(CLOSE, "}"))
