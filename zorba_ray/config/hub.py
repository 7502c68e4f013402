"""The Hugging Face hub: whether it answers, asked before anything waits for it, and what to do where it does not."""

from __future__ import annotations

import os
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

from zorba_ray.config.errors import ConfigError

WAIT = 5.0  # seconds within which the hub has said something, or is out of reach
MODEL_FILES = "config.json, *.safetensors, tokenizer.json, tokenizer_config.json"


@lru_cache(maxsize=1)
def trouble() -> str:
    """Why the hub cannot be reached from here; empty: it answers. Asked once in a process."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "HF_HUB_OFFLINE is set"
    if any(proxy.startswith("socks") for proxy in urllib.request.getproxies().values()):
        return ""  # urllib cannot ask that way; the hub's own library may
    endpoint = os.environ.get("HF_ENDPOINT", "") or "https://huggingface.co"
    said: list[str] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(endpoint, method="HEAD")
            with urllib.request.urlopen(request, timeout=WAIT):
                said.append("")
        except urllib.error.HTTPError:
            said.append("")
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)  # of a certificate, transformers may think otherwise
            said.append("" if isinstance(reason, ssl.SSLError) else str(getattr(reason, "strerror", None) or reason))

    thread = threading.Thread(target=ask, daemon=True)  # looking up a name heeds no timeout
    thread.start()
    thread.join(WAIT)
    return said[0] if said else f"{endpoint} did not answer within {WAIT:g} s"


def cached(kind: Literal["models", "datasets"], name: str) -> bool:
    """Whether something of a model or data set was fetched from the hub before."""
    place = os.environ
    home = Path(place.get("HF_HOME") or Path(place.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface").expanduser()
    hub = Path(place.get("HF_HUB_CACHE") or place.get("HUGGINGFACE_HUB_CACHE") or home / "hub").expanduser()
    data = Path(place.get("HF_DATASETS_CACHE") or home / "datasets").expanduser()
    mine = [hub / f"{kind}--{name.replace('/', '--')}", data / name.replace("/", "___").lower()]
    return any(folder.is_dir() for folder in mine[: 1 if kind == "models" else 2])


def model_out_of_reach(name: str) -> ConfigError:
    return ConfigError(
        f"model.path: there is no folder {name}, and the hub cannot be reached from here ({trouble()}): give a folder "
        f"with {MODEL_FILES}, as `hf download {name} --local-dir FOLDER` makes it where there is a network"
    )


def data_out_of_reach(key: str, name: str, columns: Sequence[str] = ()) -> ConfigError:
    wanted = ", ".join(columns) or "of the text and the label"
    return ConfigError(
        f"{key}: there is no file {name}, and the hub cannot be reached from here ({trouble()}): give local files, "
        f"task.train=FILE task.test=FILE, as .tsv, .csv, .jsonl or .parquet with the columns {wanted}"
    )
