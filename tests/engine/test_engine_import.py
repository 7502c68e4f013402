"""The core is a library of its own: it needs neither Ray nor, to name versions, transformers."""

from __future__ import annotations

import subprocess
import sys


def test_model_and_engine_import_without_ray_and_do_not_import_transformers() -> None:
    program = (
        "import sys; sys.modules['ray'] = None; import zorba_ray.model, zorba_ray.engine; "
        "assert 'transformers' not in sys.modules and 'peft' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
