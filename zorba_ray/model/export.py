"""A model as named arrays, and back: how weights reach client processes and how a fine-tuned model leaves."""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zorba_ray.config.errors import ConfigError
from zorba_ray.model.adapters import inject_adapters, is_adapter
from zorba_ray.model.head import Prototype
from zorba_ray.model.linear import linears, numbers_of
from zorba_ray.model.load import model_path
from zorba_ray.model.model import BlockModel, assemble
from zorba_ray.model.spec import ModelSpec

BFLOAT16 = "@bfloat16"  # NumPy has no bfloat16: such arrays travel as uint16 under a marked name


def export_weights(model: BlockModel) -> dict[str, NDArray[Any]]:
    """Every parameter and buffer once, by name; views where the model is on the CPU."""
    arrays: dict[str, NDArray[Any]] = {f"layers={model.parts.prefix}": np.zeros(0, np.float32)}
    tensors = [*numbers_of(model.module), *model.module.named_buffers()]
    if model.head.prototype is not None:
        tensors += [(f"prototype.{name}", p.data) for name, p in model.head.prototype.named_parameters()]
    for name, tensor in tensors:
        if tensor.dtype == torch.bfloat16:
            arrays[name + BFLOAT16] = tensor.cpu().view(torch.uint16).numpy()
        else:
            arrays[name] = tensor.cpu().numpy()
    return arrays


def build_model(
    spec: ModelSpec, weights: Mapping[str, NDArray[Any]], device: str = "cpu", offloaded: Collection[int] = ()
) -> BlockModel:
    """The model that was exported, without any file. Block vectors are private copies; frozen arrays are only read."""
    import transformers

    config = _transformers_config(spec)
    options = {"trust_remote_code": True} if spec.code else {}
    with torch.device("meta"):
        auto = getattr(transformers, spec.auto_class)
        module = auto.from_config(config, attn_implementation=spec.attention, dtype=torch.float32, **options)
    prefix = next(name.removeprefix("layers=") for name in weights if name.startswith("layers="))
    if spec.config.trainable == "lora":
        with torch.device("meta"):
            inject_adapters(module, prefix, spec.config.lora)
    tensors = {name.removesuffix(BFLOAT16): _tensor(name, array) for name, array in weights.items()}
    _fill(module, tensors)
    prototype = None
    if "prototype.weight" in tensors:
        prototype = Prototype(tensors["prototype.weight"], tensors["prototype.bias"])
    return assemble(module, spec, torch.device(device), prototype, offloaded)


def save_folder(model: BlockModel, folder: Path) -> None:
    """Write a folder that `from_pretrained` opens: adapters are added to the weights under them, and a prototype head
    lies beside it. Its numbers are float32, also of a model that is evaluated in few bits: those are what was trained.
    """
    module: Any = model.module
    fetched = {id(p): t for (_, p), (_, t) in zip(module.named_parameters(), numbers_of(module), strict=True)}
    names = dict(module.named_parameters(remove_duplicate=False))
    added = {
        f"{name}.base_layer.weight": layer.get_delta_weight("default")
        for name, layer in module.named_modules()
        if hasattr(layer, "lora_A") and hasattr(layer, "base_layer")
    }
    state = {}
    for name, tensor in module.state_dict().items():
        if not is_adapter(name):
            numbers = fetched.get(id(names.get(name)), tensor)
            numbers = numbers.float() if numbers.is_floating_point() else numbers
            state[name.replace(".base_layer.", ".")] = numbers + added[name] if name in added else numbers.clone()
    module.save_pretrained(folder, state_dict=state)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = json.dumps({**config, "dtype": "float32"}, indent=2, sort_keys=True)  # or it is what few bits there are
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    if model.head.prototype is not None:
        from safetensors.torch import save_file

        prototype = {name: parameter.data.clone() for name, parameter in model.head.prototype.named_parameters()}
        save_file(prototype, folder / "prototype.safetensors")


def save_adapter(model: BlockModel, folder: Path) -> None:
    """Write the adapters alone, as a folder that peft opens over the base model."""
    from peft import LoraConfig as PeftConfig
    from safetensors.torch import save_file

    if model.spec.config.trainable != "lora":
        raise ConfigError("--adapter: this run trained no adapters (model.trainable is not lora); use --export alone")
    if model.spec.config.config:
        raise ConfigError("--adapter: nothing could open it, for the weights under it are random; use --export")
    tensors = {
        f"base_model.model.{name.replace('.default.', '.')}": parameter.data.clone().contiguous()
        for name, parameter in model.module.named_parameters()
        if is_adapter(name)
    }
    wrapped = [name for name, layer in model.module.named_modules() if hasattr(layer, "lora_A")]
    lora = model.spec.config.lora
    config = PeftConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # as in `inject_adapters`
        lora_dropout=0.0,
        target_modules=wrapped,
        fan_in_fan_out=any(each.transposed for each in linears([model.module])),
        base_model_name_or_path=model_path(model.spec.config),
        inference_mode=True,
    )
    config.save_pretrained(str(folder))
    save_file(tensors, folder / "adapter_model.safetensors")


def _transformers_config(spec: ModelSpec) -> Any:
    from transformers import AutoConfig

    fields = dict(spec.transformers_config)
    if spec.code:
        config = AutoConfig.from_pretrained(spec.code, trust_remote_code=True)
        config.update(fields)
        return config
    return AutoConfig.for_model(fields.pop("model_type"), **fields)


def _tensor(name: str, array: NDArray[Any]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if name.endswith(BFLOAT16) else tensor


def _fill(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put arrays in the place of a model's empty parameters and buffers; shared parameters stay shared."""
    filled: dict[int, nn.Parameter] = {}
    for name, parameter in module.named_parameters():
        filled[id(parameter)] = nn.Parameter(tensors[name].float(), requires_grad=False)  # low bits again at the end
    for child_name, child in module.named_modules():
        for name, own in list(child._parameters.items()):
            if own is not None:
                child._parameters[name] = filled[id(own)]
        for name, buffer in list(child._buffers.items()):
            if buffer is not None:
                child._buffers[name] = tensors[f"{child_name}.{name}" if child_name else name].clone()
    left = [name for name, tensor in (*module.named_parameters(), *module.named_buffers()) if tensor.is_meta]
    assert not left, f"not exported: {left}"
