"""A page in a real browser, by its DevTools protocol: one headless Chromium, its pages laid out at any width."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp  # comes with Ray

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--remote-debugging-port=0",
)  # fmt: skip
PATIENCE = 60  # seconds


def found() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def started(profile: Path) -> Iterator[str]:
    """A browser with an empty profile; the address of its first page's protocol."""
    browser = found()
    assert browser
    with (profile.parent / "chromium.log").open("wb") as log:
        line = [browser, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(line, stderr=log, stdout=log)
        try:
            yield address(profile, process)
        finally:
            process.kill()
            process.wait()


def address(profile: Path, process: subprocess.Popen[bytes]) -> str:
    told, until = profile / "DevToolsActivePort", time.monotonic() + PATIENCE
    while not told.exists() or "\n" not in told.read_text():
        assert process.poll() is None and time.monotonic() < until, "the browser did not start"
        time.sleep(0.05)
    port, path = told.read_text().split("\n")[:2]
    return f"ws://127.0.0.1:{port}{path}"


class Tab:
    """A page of the browser that does not run scripts of its own. `requests`: every address that it asked for."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse):
        self.socket, self.numbers, self.session = socket, itertools.count(1), ""
        self.requests: list[str] = []
        self.seen: set[str] = set()

    @classmethod
    async def opened(cls, socket: aiohttp.ClientWebSocketResponse) -> Tab:
        tab = cls(socket)
        target = await tab.call("Target.createTarget", url="about:blank")
        tab.session = (await tab.call("Target.attachToTarget", targetId=target["targetId"], flatten=True))["sessionId"]
        for name in ("Page.enable", "Network.enable"):
            await tab.call(name)
        await tab.call("Emulation.setScriptExecutionDisabled", value=True)
        return tab

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        await self.socket.send_str(json.dumps(message | ({"sessionId": self.session} if self.session else {})))
        while True:
            told = await self.receive()
            if told.get("id") == number:
                assert "error" not in told, told
                return dict(told["result"])

    async def receive(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(await self.socket.receive_str(timeout=PATIENCE))
        self.seen.add(told.get("method", ""))
        if told.get("method") == "Network.requestWillBeSent":
            self.requests.append(told["params"]["request"]["url"])
        return told

    async def show(self, page: Path, width: int, scheme: str) -> None:
        height = 844 if width < 600 else 1000
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                        mobile=width < 600)  # fmt: skip
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.seen.clear()
        await self.call("Page.navigate", url=page.as_uri())
        while "Page.loadEventFired" not in self.seen:
            await self.receive()

    async def ask(self, expression: str) -> Any:
        told = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def click(self, selector: str) -> None:
        place = await self.ask(f"""(() => {{ const box = document.querySelector({json.dumps(selector)});
          box.scrollIntoView({{block: 'center'}}); const r = box.getBoundingClientRect();
          return [r.left + r.width / 2, r.top + r.height / 2] }})()""")
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    async def picture(self, path: Path) -> None:
        """The whole page, as high as it is."""
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        made = await self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(made["data"]))
