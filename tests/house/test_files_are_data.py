"""Nothing out of a file is unpickled."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "zorba_ray"
LOADERS = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_of_the_package_reads_no_pickles(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not LOADERS & {name.partition(".")[0] for name in names}, f"line {node.lineno}"
        if isinstance(node, ast.Call):
            called, keywords = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert keywords.get("allow_pickle", "False") == "False", f"line {node.lineno}"
            assert called != "torch.load" or keywords.get("weights_only") == "True", f"line {node.lineno}"
            assert called != "yaml.load" or "Safe" in keywords.get("Loader", ""), f"line {node.lineno}"
