"""What this machine's own files tell before anything starts: data that is not there, a broken model, its blocks.

Only where Ray is started here: on a cluster the files lie where its actors look for them. Whoever only asks (what would
this take?) needs no weights and no tokenizer; a run does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.published import PUBLISHED
from zorba_ray.config.schema import Config, ModelConfig

EMBEDDED = Path(__file__).parent.parent / "playground" / "model"
FORMATS = (".tsv", ".csv", ".jsonl", ".parquet", ".txt")  # of data, each also with .gz
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")  # as config.json calls them
WIDTHS = ("hidden_size", "n_embd", "d_model", "dim")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json", "spiece.model",
              "sentencepiece.bpe.model", "spm.model")  # fmt: skip
PER_BLOCK = ("coverage_per_block", "gradient", "batch_variance", "client_variance", "smoothness")


@dataclass(frozen=True)
class ModelFacts:
    """What a model's config.json says; 0: nothing that we understand."""

    layers: int
    width: int


def check_files(config: Config) -> None:
    """ConfigError, one line, for files that are not there or cannot be what they should be."""
    if config.runtime.address != "local":
        return
    for name, source in (("train", config.task.train), ("test", config.task.test)):
        if source and looks_local(source):
            check_data(f"task.{name}", source)
    trace = config.participation.trace
    if config.participation.availability == "trace" and not Path(trace).is_file():
        raise ConfigError(f"participation.trace: there is no file {trace}")
    facts = facts_of(PUBLISHED[config.model.config]) if config.model.config else model_facts(config.model.path)
    if facts is not None:
        check_blocks(config, facts)


def check_complete(model: ModelConfig) -> None:
    """ConfigError where a model's folder lacks what a run needs, and asking does not."""
    folder = Path(model.path).expanduser()
    if model.path == "embedded" or not folder.is_dir():
        return
    missing = [] if has_weights(model) else ["*.safetensors"]
    if not (model.trust_remote_code or any((folder / each).exists() for each in TOKENIZERS)):
        missing.append(" or ".join(TOKENIZERS[:3]))
    if missing:
        raise ConfigError(f"model.path: {model.path} lacks {' and '.join(missing)}, without which nothing can run; "
                          f"what a run would take is told without (zorba-ray allocate, run --dry-run)")  # fmt: skip


def only_asked(model: ModelConfig) -> bool:
    """Whether a model's weights say nothing, or are not in the folder where they should be."""
    return bool(model.config) or (Path(model.path).expanduser().is_dir() and not has_weights(model))


def has_weights(model: ModelConfig) -> bool:
    """Whether a folder here has weights of the model: those of a shape are made up, those on the hub elsewhere."""
    folder = EMBEDDED if model.path == "embedded" else Path(model.path).expanduser()
    return not model.config and folder.is_dir() and any(folder.glob("*.safetensors"))


def looks_local(source: str) -> bool:
    """Whether a name means a file or folder, there or not, rather than something on the hub (`owner/name`)."""
    path = Path(source.partition(":")[0])
    return (
        source.startswith(("/", "./", "../", "~"))
        or source in (".", "..")
        or format_of(path) in FORMATS
        or path.exists()
        or (len(path.parts) > 1 and Path(path.parts[0]).is_dir())
    )


def format_of(path: Path) -> str:
    return path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix


def check_data(key: str, source: str) -> None:
    for name in (source, source.partition(":")[0]):  # a folder's split may follow
        path = Path(name).expanduser()
        if path.is_file() and format_of(path) not in FORMATS:
            raise ConfigError(f"{key}: {source} is none of {', '.join(FORMATS)} (or one of these with .gz)")
        if path.exists():
            return
    raise ConfigError(f"{key}: there is no file {source}")


def model_facts(name: str) -> ModelFacts | None:
    """Of a model in a folder; None for one on the hub. ConfigError where the folder or its files are no good."""
    folder = EMBEDDED if name == "embedded" else Path(name).expanduser()
    if not folder.is_dir():
        if folder.exists():
            raise ConfigError(f"model.path: {name} is a file; give the folder that has config.json and the weights")
        if looks_local(name) or name.count("/") > 1:
            raise ConfigError(f"model.path: there is no folder {name}; a model on the hub is called owner/name")
        return None
    try:
        told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"model.path: {name} has no config.json, so it is no folder of a model") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.path: cannot read config.json of {name}: {error}") from None
    if not isinstance(told, dict):
        raise ConfigError(f"model.path: config.json of {name} is no object of settings")
    for path in sorted(folder.glob("*.safetensors")):
        check_weights_file(path)
    return facts_of(told)


def facts_of(told: dict[str, Any]) -> ModelFacts:
    inner = told.get("text_config")
    told = told | inner if isinstance(inner, dict) else told
    return ModelFacts(first_number(told, LAYERS), first_number(told, WIDTHS))


def first_number(told: dict[str, Any], names: tuple[str, ...]) -> int:
    return next((told[name] for name in names if isinstance(told.get(name), int)), 0)


def check_weights_file(path: Path) -> None:
    """A safetensors file is as long as its header says: a broken download is seen without reading it."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if 8 + length <= size else None
        if header is None:
            raise ValueError("it ends within its own header")
        needed = 8 + length + max((entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"),
                                  default=0)  # fmt: skip
        if size != needed:
            raise ValueError(f"it has {size:,} bytes, where its header says {needed:,}")
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ConfigError(f"model.path: {path} is cut off or no safetensors file: {error}; fetch it again") from None


def check_blocks(config: Config, facts: ModelFacts) -> None:
    """What goes by the number of blocks, where the layers alone are the blocks, and by the width of the matrices."""
    model, settings = config.model, config.allocation
    lora = model.trainable == "lora"
    if lora and facts.width and model.lora.rank > facts.width:
        raise ConfigError(f"model.lora.rank is {model.lora.rank}, and this model's matrices are {facts.width} wide: an "
                          f"adapter has fewer numbers than the matrix only below that")  # fmt: skip
    plain = not (model.stem or model.head) and (model.trainable == "full" or (lora and not model.lora.targets))
    if not plain or not facts.layers:
        return
    for name in PER_BLOCK:
        given = len(getattr(settings, name))
        allowed = (0, facts.layers) if name == "coverage_per_block" else (0, 1, facts.layers)
        if given not in allowed:
            raise ConfigError(f"allocation.{name} has {given} entries, the model has {facts.layers} blocks")
