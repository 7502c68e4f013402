"""The report's look: style sheet and the few HTML pieces that it is made of. Every text is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

CSS = """
:root { --paper: #fcfcfb; --card: #ffffff; --ink: #1d2126; --soft: #68707a; --line: #e4e6e9; --accent: #2f67b1;
  --second: #c26a2d; --empty: #e9ebee; --good: #2c7a4b; --bad: #b3402f; --shade: #00000026;
  color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15181c; --card: #1b1f24; --ink: #e6e9ec; --soft: #98a1ab; --line: #2d333a; --accent: #6aa3ec;
    --second: #e09a5f; --empty: #2a3037; --good: #69c08c; --bad: #ea8574; --shade: #ffffff2e; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); -webkit-text-size-adjust: 100%;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 56px 24px 96px; }
header { margin-bottom: 36px; }
h1 { font-size: 30px; line-height: 1.2; font-weight: 650; letter-spacing: -0.015em; margin: 0 0 6px;
  overflow-wrap: anywhere; }
h2 { font-size: 19px; font-weight: 620; letter-spacing: -0.005em; margin: 60px 0 4px; }
p { margin: 6px 0 14px; max-width: 44em; }
.soft, figcaption, h2 + p { color: var(--soft); }
.state { font-size: 13px; font-weight: 600; margin-left: 10px; vertical-align: 4px; white-space: nowrap;
  padding: 2px 10px; border-radius: 99px; border: 1px solid currentColor; letter-spacing: 0; }
.good { color: var(--good); } .bad { color: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); gap: 1px; overflow: hidden;
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; margin: 0; }
.tiles div { box-shadow: 0 0 0 1px var(--line); padding: 16px 20px 14px; }
.tiles dt { font-size: 13px; color: var(--soft); }
.tiles dd { margin: 2px 0 0; font-size: 23px; line-height: 1.3; font-weight: 600; letter-spacing: -0.015em;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
.tiles small { display: block; font-size: 13px; font-weight: 400; letter-spacing: 0; color: var(--soft);
  white-space: normal; }
figure { margin: 18px 0 0; overflow-x: auto; }
figure svg { display: block; width: 100%; min-width: 620px; height: auto; }
figure svg text { font-family: inherit !important; font-variant-numeric: tabular-nums; }
figcaption { font-size: 14px; margin-top: 8px; max-width: 52em; }
.scroll { overflow-x: auto; margin-top: 18px; }
.scroll, section > figure { background: linear-gradient(to right, var(--paper) 40%, transparent) left / 44px 100% local,
  linear-gradient(to left, var(--paper) 40%, transparent) right / 44px 100% local,
  linear-gradient(to right, var(--shade), transparent) left / 14px 100% scroll,
  linear-gradient(to left, var(--shade), transparent) right / 14px 100% scroll; background-repeat: no-repeat; }
.tabs { margin-top: 14px; }
.tabs > input { position: absolute; opacity: 0; pointer-events: none; }
.tabs > span { font-size: 14px; margin-right: 6px; }
.tabs > label { display: inline-block; font-size: 14px; padding: 3px 12px; margin: 0 4px 6px 0; cursor: pointer;
  border: 1px solid var(--line); border-radius: 99px; background: var(--card); }
.tabs > input:checked + label { background: var(--accent); border-color: var(--accent); color: var(--paper); }
.tabs > input:focus-visible + label { outline: 2px solid var(--accent); outline-offset: 2px; }
.tab { display: none; grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); gap: 8px 28px; }
.tab figure svg { min-width: 0; }
.tabs > input:nth-of-type(1):checked ~ .tab:nth-of-type(1), .tabs > input:nth-of-type(2):checked ~ .tab:nth-of-type(2),
.tabs > input:nth-of-type(3):checked ~ .tab:nth-of-type(3), .tabs > input:nth-of-type(4):checked ~ .tab:nth-of-type(4),
.tabs > input:nth-of-type(5):checked ~ .tab:nth-of-type(5) { display: grid; }
.key { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 22px; padding: 0; margin: 10px 0 0; font-size: 14px; }
.key svg { margin-right: 8px; vertical-align: middle; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 0 7px 18px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { font-weight: 500; color: var(--soft); vertical-align: bottom; }
td:first-child, th:first-child { text-align: left; padding-left: 0; }
.facts { width: auto; min-width: 50%; }
.facts td, .facts th { text-align: left; }
.facts td:last-child { overflow-wrap: anywhere; white-space: normal; }
pre, code { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; overflow-x: auto;
  margin: 12px 0; }
details { border-top: 1px solid var(--line); padding: 12px 0; }
details:last-of-type { border-bottom: 1px solid var(--line); }
summary { cursor: pointer; font-weight: 550; }
.folds { margin-top: 60px; }
.note { border-left: 3px solid var(--second); padding: 2px 0 2px 14px; margin: 12px 0; }
@media (max-width: 480px) { main { padding: 32px 16px 64px; } th, td { padding-left: 10px; }
  td:first-child { white-space: normal; } }
@media print { main { padding: 0; } figure, .tiles, table { break-inside: avoid; } }
"""


def page(title: str, body: Iterable[str]) -> str:
    """A whole document that needs nothing but itself."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{escape(title)}</title>
<style>{CSS}</style>
</head>
<body>
<main>
{chr(10).join(body)}
</main>
</body>
</html>
"""


def tiles(entries: Sequence[tuple[str, str, str]]) -> str:
    """Headline numbers: what, value, and a line below."""
    cells = (
        f"<div><dt>{escape(what)}</dt><dd>{escape(value)}<small>{escape(below)}</small></dd></div>"
        for what, value, below in entries
    )
    return f'<dl class="tiles">{"".join(cells)}</dl>'


def section(title: str, about: str, *parts: str) -> str:
    intro = f"<p>{escape(about)}</p>" if about else ""
    return f"<section><h2>{escape(title)}</h2>{intro}{''.join(parts)}</section>"


def figure(svg: str, label: str, caption: str = "") -> str:
    """A picture, its meaning for those who cannot see it, and a caption."""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure role="img" aria-label="{escape(label)}">{svg}{below}</figure>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values, one below the other."""
    body = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f'<div class="scroll"><table class="facts">{body}</table></div>'


def code(text: str) -> str:
    return f"<pre><code>{escape(text)}</code></pre>"


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def folded(title: str, *parts: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{''.join(parts)}</details>"
