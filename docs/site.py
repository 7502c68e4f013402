"""For mkdocs: results that the docs link to are pages of the site, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

RESULTS = Path("analysis/results")


def on_files(files: Files, config: Any) -> Files:
    root = Path(config.config_file_path).parent
    for path in sorted((root / RESULTS).glob("*.md")):
        files.append(File.generated(config, f"results/{path.name}", content=path.read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    return markdown.replace("](../analysis/results/", "](results/")
