"""What of a config a method can bear. What no method could is `config.validate`'s."""

from __future__ import annotations

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.require import require
from zorba_ray.config.schema import Config
from zorba_ray.methods.method import FirstOrder, ZeroOrder
from zorba_ray.methods.registry import METHODS, method_of


def check(config: Config) -> None:
    """ConfigError, one line, at the first thing that the config's method cannot bear."""
    method = method_of(config)
    if isinstance(method, FirstOrder):
        check_gradients(config)
    else:
        check_scalars(config, method)
    method.check(config)


def ignored(config: Config) -> list[str]:
    """Keys of methods that are set and have no effect, one line each."""
    method, default = method_of(config), type(config)()
    lines = [
        f"{name} has no effect: method is not {name}"
        for name, other in METHODS.items()
        if other.options and name != config.method and getattr(config, name) != getattr(default, name)
    ]
    if config.model.active == "offload" and isinstance(method, FirstOrder):
        lines.append("model.active has no effect: with gradients all weights are on the device")
    if config.model.streaming == "double" and isinstance(method, FirstOrder):
        lines.append("model.streaming has no effect: with gradients all weights are on the device")
    if config.clients.fused > 1 and not can_fuse(config):
        lines.append("clients.fuse has no effect: clients share no directions, or move by themselves on the way")
    if config.zo.local_steps > 1 and isinstance(method, FirstOrder):
        lines.append(f"zo.local_steps has no effect: with gradients {config.method}.steps counts")
    return lines + method.check(config)


def can_fuse(config: Config) -> bool:
    """Whether clients evaluate the same versions: they share directions, and none moves by itself on the way."""
    method = method_of(config)
    comparable = isinstance(method, ZeroOrder) and method.comparable
    return comparable and config.zo.shared and config.zo.local_steps == 1


def fused(config: Config) -> int:
    """How many clients share a product."""
    return config.clients.fused if can_fuse(config) else 1


def check_scalars(config: Config, method: ZeroOrder) -> None:
    """What works only where clients' scalars belong to the same directions, or only with plain averages."""
    step, privacy = config.step, config.privacy
    if method.shared:
        require(config.zo.shared, "zo.shared", config.zo.shared,
                f"true, because in method={config.method} all clients share directions")

    def refuse(used: str, flag: str, shared: bool, because: str) -> None:
        if not getattr(method, flag):
            able = [name for name, other in METHODS.items() if getattr(other, flag, False)]
            raise ConfigError(f"{used} does not work with method={config.method}: {because}; "
                              f"it works with {', '.join(able)}")
        if shared and not config.zo.shared:
            raise ConfigError(f"{used} does not work with zo.shared=false: {because}")

    if step.aggregate != "mean":
        refuse(f"step.aggregate={step.aggregate}", "comparable", True,
               "clients' scalars belong to different directions and cannot be compared")
    if step.normalise == "expected":
        refuse("step.normalise=expected", "comparable", True, "it divides a mean of scalars of shared directions")
    if config.faults.outlier > 0:
        refuse("faults.outlier", "comparable", False, "clients do not send scalars that can be compared")
    if config.participation.late == "keep":
        refuse("participation.late=keep", "late", False, "a late report cannot be added to another round's step")
        for name, other in (("step.aggregate", step.aggregate != "mean"), ("privacy.noise", privacy.noise > 0)):
            if other:
                raise ConfigError(f"participation.late=keep does not work with {name}: late reports join a mean")
    if privacy.noise > 0:
        refuse("privacy.noise", "private", True, "noise is added on sums of clients' scalars of shared directions")


def check_gradients(config: Config) -> None:
    """What goes with zeroth-order methods only."""
    model, because = config.model, f"because method={config.method} trains with gradients"
    require(model.precision != "auto", "model.precision", "auto",
            f"float32 or bfloat16, {because}: it has no scalars to measure rounding by")
    require(model.precision != "float16", "model.precision", model.precision,
            f"float32 or bfloat16, {because}: those of float16 vanish")
    require(model.frozen in ("resident", "offload") or model.trainable != "full", "model.frozen", model.frozen,
            f"resident, or model.trainable=lora, {because}: few bits are for weights that nobody trains")
    require(config.step.aggregate in ("mean", "clipped"), "step.aggregate", config.step.aggregate,
            f"mean or clipped, {because}")
    require(config.privacy.noise == 0, "privacy.noise", config.privacy.noise, f"0, {because}: only scalars are noised")
    require(config.participation.late == "drop", "participation.late", config.participation.late, f"drop, {because}")
    for name in ("byzantine", "outlier"):
        value = getattr(config.faults, name)
        require(value == 0, f"faults.{name}", value, f"0, {because}: it is about scalars")
