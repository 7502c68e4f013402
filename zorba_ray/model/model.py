"""A model as stem, layers and head, some of them blocks; assembled from a transformers model and proven on the spot."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import ModelConfig
from zorba_ray.model.adapters import is_adapter
from zorba_ray.model.batch import Batch
from zorba_ray.model.blocks import SLICE, Block, Scratch, make_block, make_scratch, move_block, parts_of
from zorba_ray.model.forward import Context, run_layer, run_stem
from zorba_ray.model.head import Head, Prototype
from zorba_ray.model.hollow import at_hand, storage_of
from zorba_ray.model.linear import accept_few_bits, adopt, host_matrices, linears, matrices_of
from zorba_ray.model.packing import pays
from zorba_ray.model.prove import prove_head
from zorba_ray.model.quantise import Quantised, few_bits, quantise
from zorba_ray.model.spec import ModelSpec
from zorba_ray.model.structure import Parts, config_of, find_parts, parameters_of, probe_batch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class Stage:
    """One visit of a forward: the stem, a layer or the head, and the block that it evaluates (None when frozen)."""

    name: str
    block: Block | None


@dataclass
class BlockModel:
    """stages[0] is the stem, stages[-1] the head, layers between; `blocks` are the allocation's columns."""

    module: nn.Module
    parts: Parts
    head: Head
    blocks: list[Block]
    stages: list[Stage]
    spec: ModelSpec
    precision: torch.dtype
    device: torch.device
    hidden_size: int
    mask_bytes: int  # of a context, per example and squared token
    scratch: tuple[Scratch, ...] = ()  # as many as there are buffers, all of a size
    staging: Tensor | None = None  # float32 numbers on their way to few bits, where there are two buffers
    flops: NDArray[np.float64] | None = None  # [3, stages]: per example, of tokens², tokens and 1; once counted
    backward: dict[bytes, NDArray[np.float64]] = field(default_factory=dict)  # likewise [3, 1], by row of a[n, l]

    @property
    def columns(self) -> list[int | None]:
        """Column of each stage; a tied stem and head share one."""
        return [None if stage.block is None else stage.block.index for stage in self.stages]

    @property
    def buffers(self) -> int:
        """Through how many buffers versions of blocks are shown."""
        return 2 if self.spec.config.streaming == "double" else 1

    def stem(self, batch: Batch) -> tuple[Tensor, Context]:
        return run_stem(self.module, self.parts, batch.ids, batch.mask)

    def layer(self, index: int, hidden: Tensor, context: Context) -> Tensor:
        return run_layer(self.parts, index, hidden, context)

    def state_bytes(self, batch: Batch) -> int:
        """Bytes of one live hidden state, and what its batch's context takes."""
        count, length = batch.ids.shape
        return 4 * count * length * self.hidden_size + self.mask_bytes * count * length * length

    def moved(self) -> None:
        """The block vectors are no longer what they were: what was derived from them is outdated."""
        for block in self.blocks:
            block.few = None

    def hold(self, active: Sequence[bool]) -> None:
        """Let every block lie where the config wants it for the client that comes next, which has the `active` ones
        [L]; what leaves the device goes first."""
        config = self.spec.config
        away = [config.active == "offload" if on else leaves_host_copy(config) for on in active]
        for block, offloaded in sorted(zip(self.blocks, away, strict=True), key=lambda pair: not pair[1]):
            move_block(block, self.device, offloaded)
        self.scratch, self.staging = (), None

    def stream(self) -> None:
        """Leave matrices of the layers that nobody trains in host memory, from where each comes for its product."""
        trained = {id(parameter) for block in self.blocks for parameter in block.parameters}
        host_matrices(self.parts.layers, matrices_of(self.module) - trained, self.device)

    def has_scratch(self, block: Block) -> bool:
        """Whether the buffers have room for a block."""
        return bool(self.scratch) and self.scratch[0].holds(block)

    def get_scratch(self, block: Block, buffer: int = 0) -> Scratch:
        """One of the buffers, with room for a block."""
        if not self.has_scratch(block):
            sizes = parts_of(block, self.precision == torch.float32)
            if self.scratch:
                sizes = max(sizes[0], self.scratch[0].matrices.numel()), max(sizes[1], self.scratch[0].others.numel())
            self.scratch, self.staging = (), None  # their memory first
            self.scratch = tuple(make_scratch(sizes, self.precision, self.device) for _ in range(self.buffers))
            if staged(self.spec.config):
                self.staging = torch.empty(min(SLICE, sizes[0]), dtype=torch.float32, device=self.device)
        return self.scratch[buffer]


def assemble(
    module: nn.Module, spec: ModelSpec, device: torch.device, prototype: Prototype | None = None,
    offloaded: Collection[int] = (),
) -> BlockModel:
    """Find the parts, prove that they make up the model, and give every block its flat vector.

    Adapters, if any, are already in the module. Without a `prototype` its vectors are begun from the label sentences.
    Everything goes to `device` but the blocks of the `offloaded` columns.
    """
    with at_hand(module):
        return _assemble(module, spec, device, prototype, offloaded)


def _assemble(
    module: nn.Module, spec: ModelSpec, device: torch.device, prototype: Prototype | None, offloaded: Collection[int]
) -> BlockModel:
    module.eval()
    module.requires_grad_(False)
    config_of(module).use_cache = False
    adopt(module)
    ids, mask = probe_batch(module)
    parts = find_parts(module, ids, mask)
    hidden, context = run_stem(module, parts, ids, mask)
    head = prove_head(module, parts, spec.head, ids, mask)
    if spec.head.kind == "prototype":
        if prototype is None:
            prototype = begin_prototype(module, parts, head, spec.head.sentences)
        head.prototype = prototype
    blocks, stages = _divide(module, parts, head, spec.config, device, offloaded)
    precision = DTYPES[spec.config.precision]
    for block in blocks:
        own = {id(parameter) for parameter in block.parameters}
        block.packed = [
            linear for linear in linears(parts.layers)
            if id(linear.weight) in own and not linear.transposed and pays(linear.weight, precision, device)
        ]
    _store(module, parts, blocks, spec.config, precision)
    if offloaded and streams_matrices(spec.config):
        trained = {id(parameter) for block in blocks for parameter in block.parameters}
        host_matrices(parts.layers, matrices_of(module) - trained, device)
    if precision != torch.float32:
        accept_few_bits(module)
        _round(parts, blocks, hidden, context, precision)
    _place([module] if head.prototype is None else [module, head.prototype], blocks, device)
    head.words = head.words.to(device)
    return BlockModel(
        module, parts, head, blocks, stages, spec, precision, device,
        hidden_size=int(hidden.shape[-1]), mask_bytes=_mask_bytes(context, ids),
    )


def leaves_host_copy(config: ModelConfig) -> bool:
    """Whether a block that a client does not tune lies in host memory: to be streamed in, or because the device has
    few bits of it."""
    return config.frozen == "offload" or (few_bits(config.frozen) is not None and config.trainable == "full")


def staged(config: ModelConfig) -> bool:
    """Whether numbers of a whole block come from host memory through a staging buffer of their own: with two buffers
    nothing is made on the way, and the CPU rounds nothing, for both would hold the computation up."""
    streams = "offload" in (config.frozen, config.active)
    return config.streaming == "double" and config.precision != "float32" and streams


def streams_matrices(config: ModelConfig) -> bool:
    """Whether matrices that nobody trains, under adapters or beside groups, lie in host memory."""
    return config.frozen == "offload" and config.trainable != "full"


def begin_prototype(module: nn.Module, parts: Parts, head: Head, sentences: Sequence[Sequence[int]]) -> Prototype:
    """One vector per label: the embedding of its label sentence."""
    if not sentences:
        raise ConfigError("task.words: an encoder needs one label sentence per label")
    rows = []
    device = next(module.parameters()).device
    with torch.no_grad():
        for sentence in sentences:
            ids = torch.tensor([list(sentence)], device=device)
            mask = torch.ones_like(ids)
            hidden, context = run_stem(module, parts, ids, mask)
            for index in range(len(parts.layers)):
                hidden = run_layer(parts, index, hidden, context)
            rows.append(head.embed(hidden, ids, mask)[0])
    return Prototype(torch.stack(rows), torch.zeros(len(rows), device=device))


def _divide(
    module: nn.Module, parts: Parts, head: Head, config: ModelConfig, device: torch.device, offloaded: Collection[int]
) -> tuple[list[Block], list[Stage]]:
    """Blocks and stages: which parameters train, in which block, in which order."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    tail = list(head.tail)
    if head.prototype is not None:
        names.update({id(p): f"prototype.{name}" for name, p in head.prototype.named_parameters()})
        tail.append(head.prototype)
    stem_own, head_own = parameters_of(parts.stem), parameters_of(tail)
    layer_own = [parameters_of([layer]) for layer in parts.layers]
    wanted = _wanted(config, names)

    def trainable(own: dict[int, nn.Parameter]) -> list[tuple[str, nn.Parameter]]:
        return [(names[key], parameter) for key, parameter in own.items() if key in wanted]

    in_stem = trainable(stem_own) if config.stem else []
    in_head = trainable(head_own) if config.head else []
    visited_by_stem = {id(p) for _, p in in_stem + in_head} & stem_own.keys()
    visited_by_head = {id(p) for _, p in in_stem + in_head} & head_own.keys()
    if visited_by_stem & visited_by_head:  # tied: one block, visited twice
        seen = {id(p) for _, p in in_stem}
        in_stem = in_stem + [item for item in in_head if id(item[1]) not in seen]
        in_head = []
        stem_name = "stem+head" if config.stem and config.head else "stem" if config.stem else "head"
    else:
        stem_name = "stem"
    last = len(parts.layers) + 1
    sources = [(stem_name, 0, in_stem)]
    sources += [(f"{parts.prefix}.{i}", i + 1, trainable(own)) for i, own in enumerate(layer_own)]
    sources += [("head", last, in_head)]
    if not any(named for _, _, named in sources):
        raise ConfigError(_nothing_trains(config))

    matrices = matrices_of(module)
    blocks: list[Block] = []
    by_id: dict[int, Block] = {}
    for name, noise_id, named in sources:
        if named:
            away = len(blocks) in offloaded
            by_id[noise_id] = make_block(len(blocks), name, noise_id, named, matrices, device, away)
            blocks.append(by_id[noise_id])
    stem_block = by_id.get(0) if visited_by_stem else None
    head_block = by_id.get(last, by_id.get(0) if visited_by_head else None)
    stages = [Stage("stem", stem_block)]
    stages += [Stage(f"{parts.prefix}.{i}", by_id.get(i + 1)) for i in range(len(parts.layers))]
    return blocks, [*stages, Stage("head", head_block)]


def _wanted(config: ModelConfig, names: dict[int, str]) -> set[int]:
    """Identities of the parameters that train, wherever they are."""
    if config.trainable == "full":
        return set(names)
    if config.trainable == "lora":
        return {key for key, name in names.items() if is_adapter(name) or name.startswith("prototype.")}
    wanted: set[int] = set()
    for pattern in config.groups:
        matching = {key for key, name in names.items() if re.search(pattern, name)}
        if not matching:
            example = next(iter(names.values()))
            raise ConfigError(f"model.groups: {pattern!r} matches no parameter; names look like {example!r}")
        wanted |= matching
    return wanted


def _nothing_trains(config: ModelConfig) -> str:
    if config.trainable == "groups":
        return (
            f"model.groups: {config.groups} matches no parameter of the blocks; "
            "parameters of stem and head need model.stem=true or model.head=true"
        )
    return "model.trainable: nothing in the layers can be trained"


def _store(
    module: nn.Module, parts: Parts, blocks: Sequence[Block], config: ModelConfig, precision: torch.dtype
) -> None:
    """Where matrices lie that never train: those of the layers as `model.frozen` says, the others in the precision of
    evaluation. Blocks that train whole have a frozen version of their own instead.

    Embeddings, norms, biases, the head and adapters keep their numbers.
    """
    kind = few_bits(config.frozen)
    if kind is not None and config.trainable == "full":
        for block in blocks:
            block.bits = kind if 0 < block.noise_id <= len(parts.layers) else None
        kind = None
    trained = {id(parameter) for block in blocks for parameter in block.parameters}
    untrained = matrices_of(module) - trained
    stored: dict[int, Quantised] = {}
    for linear in linears(parts.layers):
        key = id(linear.weight)
        if kind is not None and key in untrained:
            stored[key] = stored.get(key) or quantise(linear.weight.data, kind)
            linear.store(stored[key], precision)
    for parameter in module.parameters():
        if id(parameter) in untrained - stored.keys():
            parameter.data = parameter.data.to(precision)


def _place(modules: Sequence[nn.Module], blocks: Sequence[Block], device: torch.device) -> None:
    """Move what is not a block's to the device; blocks are where they belong already."""
    in_blocks = {id(parameter) for block in blocks for parameter in block.parameters}
    for module in modules:
        for parameter in module.parameters():
            if id(parameter) not in in_blocks:
                parameter.data = parameter.data.to(device)
        for linear in linears([module]):
            if linear.stored is not None:
                linear.store(linear.stored.to(device), linear.weight.dtype)
        for child in module.modules():
            for name, buffer in child._buffers.items():
                if buffer is not None:
                    child._buffers[name] = buffer.to(device)


def _round(
    parts: Parts, blocks: Sequence[Block], hidden: Tensor, context: Context, precision: torch.dtype
) -> None:
    """Let products inside the layers hand on few bits, if every layer runs so and still hands on float32 itself."""
    inside = list(linears(parts.layers))
    for linear in inside:
        linear.rounded = True
    if not _bears_few_bits(parts, blocks, hidden, context, precision):
        for linear in inside:
            linear.rounded = False


def _bears_few_bits(
    parts: Parts, blocks: Sequence[Block], hidden: Tensor, context: Context, precision: torch.dtype
) -> bool:
    by_parameter = {id(parameter): block for block in blocks for parameter in block.parameters}
    where = hidden.device
    for index, layer in enumerate(parts.layers):
        shown = {by_parameter[id(p)].index: by_parameter[id(p)] for p in layer.parameters() if id(p) in by_parameter}
        for block in shown.values():
            cut = block.matrix_size
            block.point(block.views(block.vector[:cut].to(where, precision), block.vector[cut:].to(where)))
        try:
            with torch.no_grad():
                output = run_layer(parts, index, hidden, context)
        except RuntimeError:  # a product of different types, such as attention after rotary embeddings
            return False
        finally:
            for block in shown.values():
                block.point(block.base)
        if output.dtype != torch.float32:
            return False
    return True


def _mask_bytes(context: Context, ids: Tensor) -> int:
    """Bytes per example and squared token of what the layers are called with besides the hidden state."""
    count, length = ids.shape
    tensors = {
        storage_of(value): value
        for args, kwargs in context.calls
        for value in (*args, *kwargs.values())
        if isinstance(value, Tensor) and value.dim() >= 3 and value.shape[-2:] == (length, length)
    }
    size = sum(value.numel() * value.element_size() for value in tensors.values())
    return -(-size // (count * length * length))
