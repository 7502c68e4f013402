"""Language models as stem, blocks and head, each block's trainable numbers in one flat vector."""

from zorba_ray.model.blocks import Block
from zorba_ray.model.export import build_model, export_weights, save_adapter, save_folder
from zorba_ray.model.load import from_module, hollow_model, load_model, model_path, open_config
from zorba_ray.model.model import BlockModel, Stage
from zorba_ray.model.spec import HeadSpec, ModelSpec

__all__ = [
    "Block",
    "BlockModel",
    "HeadSpec",
    "ModelSpec",
    "Stage",
    "build_model",
    "export_weights",
    "from_module",
    "hollow_model",
    "load_model",
    "model_path",
    "open_config",
    "save_adapter",
    "save_folder",
]
