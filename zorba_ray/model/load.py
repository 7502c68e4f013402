"""From a name, a folder or a published shape to a model in blocks, or to one without numbers that can only be asked."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.published import PUBLISHED
from zorba_ray.config.schema import ModelConfig
from zorba_ray.model.adapters import initialise_adapters, inject_adapters
from zorba_ray.model.hollow import HOLLOW, at_hand, fill_hollow, is_hollow
from zorba_ray.model.model import BlockModel, assemble
from zorba_ray.model.spec import HeadSpec, ModelSpec
from zorba_ray.model.structure import config_of, find_parts, output_of, probe_batch
from zorba_ray.noise import Domain, generator

EMBEDDED = Path(__file__).parent.parent / "playground" / "model"


def model_path(config: ModelConfig) -> str:
    """Folder or hub name that transformers is given."""
    return str(EMBEDDED) if config.path == "embedded" else config.path


def open_config(config: ModelConfig) -> Any:
    """The transformers configuration of the model, without its weights."""
    from transformers import AutoConfig

    if config.config:
        return AutoConfig.for_model(**PUBLISHED[config.config])
    try:
        return AutoConfig.from_pretrained(model_path(config), **_source(config))
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.path: cannot open {config.path!r}: {_first_line(error)}") from error


def load_model(
    config: ModelConfig, head: HeadSpec, *, seed: int = 0, device: str = "cpu", offloaded: Collection[int] = ()
) -> BlockModel:
    """Read weights (safetensors only), or draw those of a published shape, and divide the model into blocks;
    `offloaded` columns stay in host memory."""
    import transformers

    transformers_config = open_config(config)
    auto_class, head = choose_class(transformers_config, head)
    if config.config:
        module = empty_module(auto_class, transformers_config, config)
        draw_weights(module, seed)
        return from_module(module, spec_of(module, auto_class, config, head, seed), device, offloaded)
    options: dict[str, Any] = {**_source(config), "dtype": torch.float32, "use_safetensors": True}
    auto = getattr(transformers, auto_class)
    try:
        module, info = _from_pretrained(auto, model_path(config), {**options, "output_loading_info": True})
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.path: cannot load {config.path!r}: {_first_line(error)}") from error
    spec = spec_of(module, auto_class, config, head, seed)
    return from_module(module, spec, device, offloaded, missing=set(info["missing_keys"]))


def hollow_model(config: ModelConfig, head: HeadSpec, *, seed: int = 0, device: str = "cpu") -> BlockModel:
    """The model as `load_model` would divide it, without a number: from its configuration alone."""
    transformers_config = open_config(config)
    auto_class, head = choose_class(transformers_config, head)
    with HOLLOW:
        module = _from_config(auto_class, transformers_config, config)
    return from_module(module, spec_of(module, auto_class, config, head, seed), device)


def spec_of(module: nn.Module, auto_class: str, config: ModelConfig, head: HeadSpec, seed: int) -> ModelSpec:
    return ModelSpec(
        auto_class=auto_class,
        transformers_config=json.loads(config_of(module).to_json_string(use_diff=False)),
        attention=str(config_of(module)._attn_implementation),
        code=model_path(config) if config.trust_remote_code else "",
        config=config,
        head=head,
        seed=seed,
    )


def empty_module(auto_class: str, transformers_config: Any, config: ModelConfig) -> nn.Module:
    """A transformers model with its buffers, and with room for its parameters."""
    register = nn.Module.register_parameter

    def without_numbers(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        real = parameter is not None and not parameter.is_meta  # one that is not is shared with another module
        register(module, name, nn.Parameter(parameter.data.to("meta")) if real else parameter)  # type: ignore[union-attr]

    nn.Module.register_parameter = without_numbers  # type: ignore[method-assign,assignment]  # nobody initialises them
    try:
        module = _from_config(auto_class, transformers_config, config)
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
    room = {id(p): nn.Parameter(torch.empty(p.shape), requires_grad=False) for p in module.parameters()}
    for child in module.modules():
        for name, own in child._parameters.items():
            if own is not None:
                child._parameters[name] = room[id(own)]
    return module


def draw_weights(module: nn.Module, seed: int) -> None:
    """Random weights, the same bits everywhere: matrices uniform, with the standard deviation that the model's family
    begins with; norms one, biases zero."""
    own = config_of(module)
    deviation = float(getattr(own, "initializer_range", None) or getattr(own, "init_std", None) or 0.02)
    for number, (name, parameter) in enumerate(module.named_parameters()):
        if parameter.dim() < 2:
            parameter.data.fill_(0.0 if name.endswith("bias") else 1.0)
            continue
        uniform = generator(seed, Domain.INIT, 2, number).random(tuple(parameter.shape), dtype=np.float32)
        parameter.data.copy_(torch.from_numpy(uniform)).sub_(0.5).mul_(deviation * 12**0.5)


def from_module(
    module: nn.Module, spec: ModelSpec, device: str = "cpu", offloaded: Collection[int] = (),
    missing: set[str] | None = None,
) -> BlockModel:
    """Divide a transformers model that is in memory; its weights are moved, not copied."""
    module.eval()
    if missing:
        _refuse_missing(module, missing)
    if spec.config.trainable == "lora":
        with at_hand(module):
            parts = find_parts(module, *probe_batch(module))
        if is_hollow(module):
            with torch.device("meta"):
                inject_adapters(module, parts.prefix, spec.config.lora)
            fill_hollow(module)
        else:
            inject_adapters(module, parts.prefix, spec.config.lora)
            initialise_adapters(module, spec.seed)
    return assemble(module, spec, torch.device(device), offloaded=offloaded)


def choose_class(transformers_config: Any, head: HeadSpec) -> tuple[str, HeadSpec]:
    """The transformers class for what the folder holds and what the task asks."""
    architecture = (getattr(transformers_config, "architectures", None) or [""])[0]
    if getattr(transformers_config, "is_encoder_decoder", False):
        raise ConfigError(f"model.path: {architecture} is an encoder-decoder; use a causal model or an encoder")
    if head.kind in ("words", "language"):
        if architecture.endswith("ForMaskedLM") and head.kind == "words":
            return "AutoModelForMaskedLM", head
        if architecture.endswith(("ForCausalLM", "LMHeadModel")):
            return "AutoModelForCausalLM", head
        raise ConfigError(
            f"model.path: {architecture or 'this model'} has no language-modelling head, which label words need; "
            "use a causal model, or label sentences with an encoder"
        )
    if head.kind == "classifier" or architecture.endswith("ForSequenceClassification"):
        labels = int(transformers_config.num_labels)
        if head.labels and labels != head.labels:
            raise ConfigError(f"model.path: {architecture} tells {labels} labels apart, the task has {head.labels}")
        return "AutoModelForSequenceClassification", HeadSpec("classifier", sentences=head.sentences)
    return "AutoModel", head


def _source(config: ModelConfig) -> dict[str, Any]:
    source: dict[str, Any] = {"trust_remote_code": config.trust_remote_code}
    if config.revision:
        source["revision"] = config.revision
    return source


def _from_config(auto_class: str, transformers_config: Any, config: ModelConfig) -> nn.Module:
    """With fused attention where the model has it, written out where it has not."""
    import transformers

    _hush()
    auto = getattr(transformers, auto_class)
    options: dict[str, Any] = {"dtype": torch.float32, "trust_remote_code": config.trust_remote_code}
    try:
        module: nn.Module = auto.from_config(transformers_config, attn_implementation="sdpa", **options)
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
        module = auto.from_config(transformers_config, attn_implementation="eager", **options)
    return module


def _from_pretrained(auto: Any, path: str, options: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """With fused attention where the model has it, written out where it has not. What is missing is our own to say."""
    _hush()
    try:
        module, info = auto.from_pretrained(path, attn_implementation="sdpa", **options)
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
        module, info = auto.from_pretrained(path, attn_implementation="eager", **options)
    return module, info


def _hush() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def _refuse_missing(module: nn.Module, missing: set[str]) -> None:
    """Weights that the file lacks would be random; only those of modules that the loss never visits may be missing."""
    parts = find_parts(module, *probe_batch(module))
    visited = {id(p) for m in (*parts.stem, *parts.layers, *parts.tail) for p in m.parameters()}
    poolers = {id(p) for m in parts.tail if type(m).__name__.endswith("Pooler") for p in m.parameters()}
    is_bare = output_of(module) is None and not hasattr(module, "classifier")
    needed = visited - poolers if is_bare else visited
    absent = sorted(name for name, p in module.named_parameters() if name in missing and id(p) in needed)
    if absent:
        raise ConfigError(
            f"model.path: the weights lack {absent[0]} (and {len(absent) - 1} more) of {type(module).__name__}"
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
