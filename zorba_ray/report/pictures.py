"""A picture with its data: on a page, and as files for a paper (SVG, PDF, PNG, and CSV of what is drawn)."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from zorba_ray.report.figures import ACCENT as BLUE
from zorba_ray.report.figures import EMPTY, INK, LINE, SECOND, SOFT, STYLE, svg

T = TypeVar("T")
COLUMN, TEXT = 3.35, 7.0  # inches: one column of a two-column paper, and both
WIDE = 5.5  # inches on the page from which a picture takes both columns
WHITE = {INK: "#1d2126", SOFT: "#4a525b", LINE: "#dfe2e6", EMPTY: "#c9ced4", BLUE: "#2f67b1", SECOND: "#c26a2d"}
PAPER: dict[Any, Any] = {
    "font.size": 7.0, "axes.titlesize": 7.5, "axes.titlepad": 5.0, "lines.linewidth": 1.1, "lines.markersize": 3.0,
    "xtick.major.pad": 3.0, "pdf.fonttype": 42, "svg.fonttype": "path", "savefig.dpi": 300,
}  # fmt: skip


Value = tuple[float, float, str]  # a place on a picture, and what a browser says when the pointer is there


@dataclass(frozen=True)
class Picture:
    """`draw` makes it with stand-in colours; `data` are columns of equal length; `values` lie on its first axes, or on
    those of number `on`."""

    name: str  # of its files
    draw: Callable[[], Figure]
    data: Mapping[str, Sequence[Any]]
    values: Sequence[Value] = ()
    on: int = 0


def inline(picture: Picture) -> str:
    """As an element of a page, whose theme its colours follow, with an invisible dot at each of its values."""
    with mpl.rc_context(STYLE | {"svg.hashsalt": picture.name}):
        figure = picture.draw()
        element = svg(figure, picture.name)
        height, dots = 72 * figure.get_size_inches()[1], []
        for x, y, said in picture.values:
            if math.isfinite(x) and math.isfinite(y):
                px, py = 72 / figure.dpi * figure.axes[picture.on].transData.transform((x, y))
                dots.append(f'<circle cx="{px:.1f}" cy="{height - py:.1f}" r="6" fill-opacity="0"><title>{escape(said)}'
                            "</title></circle>")  # fmt: skip
        return element.replace("</svg>", "".join(dots) + "</svg>")


def thinned(values: Sequence[T], most: int = 60) -> Sequence[T]:
    """No more than a pointer can part, evenly spread."""
    return values[:: max(1, math.ceil(len(values) / most))]


def write_picture(picture: Picture, path: Path) -> None:
    """On white, as large as on the page; the name says in which format."""
    with mpl.rc_context(STYLE):
        figure = picture.draw()
        recolour(figure)
        figure.savefig(path, dpi=150, facecolor="white")


def write_figures(pictures: Iterable[Picture], folder: Path) -> list[Path]:
    """Each in three formats, as wide as a column or the text of a two-column paper, and its data."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for picture in pictures:
        with mpl.rc_context(STYLE | PAPER | {"svg.hashsalt": picture.name}):
            figure = picture.draw()
            recolour(figure)
            width, height = figure.get_size_inches()
            wide = TEXT if width > WIDE else COLUMN
            figure.set_size_inches(wide, height * wide / width)
            for kind in ("svg", "pdf", "png"):
                path = folder / f"{picture.name}.{kind}"
                dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
                figure.savefig(path, facecolor="white", metadata=dates)
                made.append(path)
        made.append(write_data(picture, folder / f"{picture.name}.csv"))
    return made


def write_data(picture: Picture, path: Path) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(picture.data)
        writer.writerows(zip(*picture.data.values(), strict=True))
    return path


def recolour(figure: Figure) -> None:
    """Stand-in colours to those of a white page."""
    for artist in figure.findobj():
        for kind in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
            getter, setter = getattr(artist, f"get_{kind}", None), getattr(artist, f"set_{kind}", None)
            if getter is None or setter is None:
                continue
            now = getter()
            if isinstance(now, str) and now in WHITE:
                setter(WHITE[now])
            elif isinstance(now, np.ndarray) and now.ndim == 2 and len(now) == 1:  # collections
                now = tuple(now[0])
            if isinstance(now, (tuple, np.ndarray)) and np.ndim(now) == 1 and len(now) == 4:
                found = WHITE.get(mpl.colors.to_hex(tuple(now)))
                if found:
                    setter(mpl.colors.to_rgba(found, float(now[3])))
