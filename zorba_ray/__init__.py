"""zorba_ray: zeroth-order federated fine-tuning of language models, simulated at scale on Ray.

    from zorba_ray import run
    result = run("opt125m_sst2", rounds=20, clients={"count": 10})

The functions below are loaded when they are first used: `import zorba_ray` itself imports neither torch nor Ray.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zorba_ray.commands.api import (
        allocate,
        audit,
        diff,
        evaluate,
        load_config,
        open_run,
        replay,
        run,
        study,
        verify,
    )

__version__ = "0.1.0"
__all__ = [
    "__version__", "allocate", "audit", "diff", "evaluate", "load_config", "open_run", "replay", "run", "study",
    "verify",
]  # fmt: skip


class _Package(ModuleType):
    """A package whose functions win over its modules of the same name: importing `zorba_ray.run`, the door of
    `python -m zorba_ray.run`, would otherwise put that module in the function's place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from zorba_ray.commands import api

        return getattr(api, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
