"""LoRA adapters (peft) inside the layers; the wrapped weights stay as they are."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import nn

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import LoraConfig
from zorba_ray.model.linear import is_conv1d
from zorba_ray.noise import Domain, generator

ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)


def adapter_targets(module: nn.Module, prefix: str, targets: list[str]) -> list[str]:
    """Full names of the linear modules in the layers that `targets` mean; no targets: those of the attention."""
    linears = [
        name
        for name, child in module.named_modules()
        if name.startswith(prefix + ".") and (isinstance(child, nn.Linear) or is_conv1d(child))
    ]
    if not targets:
        return [name for name in linears if ATTENTION.search(name[len(prefix) :])]
    chosen: list[str] = []
    for target in targets:
        matching = [name for name in linears if name.endswith("." + target)]
        if not matching:
            known = sorted({name.rsplit(".", 1)[-1] for name in linears})
            raise ConfigError(f"model.lora.targets: no linear module is called {target!r}; this model has {known}")
        chosen += matching
    return chosen


def inject_adapters(module: nn.Module, prefix: str, lora: LoraConfig) -> None:
    """Wrap the target modules; the adapters' numbers are to be set (`initialise_adapters`, or exported weights)."""
    from peft import LoraConfig as PeftConfig
    from peft import inject_adapter_in_model

    targets = adapter_targets(module, prefix, lora.targets)
    if not targets:
        raise ConfigError("model.lora.targets: no attention projection was recognised; name the modules to adapt")
    peft_config = PeftConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # peft divides by the rank; a float is fine
        lora_dropout=0.0,
        target_modules=targets,
        fan_in_fan_out=any(is_conv1d(child) for child in module.modules()),
        init_lora_weights=False,
    )
    inject_adapter_in_model(peft_config, module)


def is_adapter(parameter_name: str) -> bool:
    return ".lora_A." in parameter_name or ".lora_B." in parameter_name


def initialise_adapters(module: nn.Module, seed: int) -> None:
    """A uniform in ±1/√in and B zero, as usual: the adapted model begins as the base model."""
    number = 0
    for name, parameter in module.named_parameters():
        if ".lora_B." in name:
            parameter.data.zero_()
        elif ".lora_A." in name:
            bound = parameter.shape[1] ** -0.5
            numbers = generator(seed, Domain.INIT, 1, number).uniform(-bound, bound, tuple(parameter.shape))
            parameter.data.copy_(torch.from_numpy(numbers.astype(np.float32)))
            number += 1
