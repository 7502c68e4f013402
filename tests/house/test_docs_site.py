"""The docs as a site: built from what is here alone, and whatever the generator warns of is an error."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="pip install 'zorba-ray[docs]'")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    made = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
                          env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})  # fmt: skip
    assert made.returncode == 0 and "WARNING" not in made.stderr, made.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) >= len(list((ROOT / "docs").glob("*.md")))
    for page in pages:
        html = page.read_text(encoding="utf-8")
        fetched = re.findall(r'<(?:script|img|iframe)[^>]+src="?(https?://[^" >]+)', html)
        fetched += re.findall(r'<link[^>]+rel="?stylesheet"?[^>]+href="?(https?://[^" >]+)', html)
        assert not fetched, page


def test_every_page_of_the_docs_has_its_place() -> None:
    """Also where the generator is not installed."""
    placed = set(re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert placed == {path.name for path in (ROOT / "docs").glob("*.md")}
