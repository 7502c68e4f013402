"""Pages as a browser shows them: nothing lies off the screen, on a phone and on a wide screen, light and dark."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from report import chromium
from report.chromium import Tab
from report.test_report import MakeRun

from zorba_ray.report.run_page import write_report
from zorba_ray.report.runs_page import write_comparison

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.found() is None, reason="no Chromium here: apt-get install chromium"),
]
OFF_SCREEN = """[...document.querySelectorAll('body *')].filter(each => {
  const box = each.getBoundingClientRect();
  if (!box.width || (box.right <= innerWidth + 1 && box.left >= -1)) return false;
  for (let up = each; up; up = up.parentElement)
    if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(up).overflowX) && up !== document.body) return false;
  return !each.closest('.tabs > input');
}).map(each => each.outerHTML.slice(0, 100))"""
SMALL = {"rounds": 20, "reporting": 9, "blocks": 6}
FLEET = ["clients.count=12", "fleet.devices=[{forward: 1e10}]"]


def in_browser(folder: Path, look: Callable[[Tab], Awaitable[None]]) -> Tab:
    async def visit() -> Tab:
        with chromium.started(folder / "profile") as place:
            async with aiohttp.ClientSession() as session, session.ws_connect(place, max_msg_size=0) as socket:
                tab = await Tab.opened(socket)
                await look(tab)
                return tab

    return asyncio.run(visit())


def test_pages_fit_every_screen_without_scripts_and_network(run_folder: MakeRun, tmp_path: Path) -> None:
    folders = [run_folder([f"seed={seed}", *FLEET], **SMALL) for seed in (0, 1)]
    page = write_report(folders[0])
    several, _ = write_comparison([*folders, run_folder(["step.lr=2", *FLEET], **SMALL)], tmp_path / "several.html")

    async def look(tab: Tab) -> None:
        for path in (page, several):
            paper = set()
            for width in (390, 1600):
                for scheme in ("light", "dark"):
                    await tab.show(path, width, scheme)
                    assert await tab.ask("document.documentElement.scrollWidth") <= width, (path, width)
                    assert not await tab.ask(OFF_SCREEN), (path, width)
                    paper.add(await tab.ask("getComputedStyle(document.body).backgroundColor"))
            assert len(paper) == 2, "light and dark"
            shown = "[...document.querySelectorAll('.tab')].map(each => getComputedStyle(each).display !== 'none')"
            assert (await tab.ask(shown))[:2] == [True, False]
            await tab.click("label[for=x-flops]")
            assert (await tab.ask(shown))[:2] == [False, True], "curves switch without a script"

    tab = in_browser(tmp_path, look)
    assert {address.partition(":")[0] for address in tab.requests} == {"file"}
    assert set(tab.requests) == {page.as_uri(), several.as_uri()}
