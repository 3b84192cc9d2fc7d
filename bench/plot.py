"""The tables that `speed.py` wrote into a page, speed and memory, as a picture: bars, shorter is better.

python bench/plot.py bench/RESULTS.md bench/speed.png      (needs matplotlib)
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt

COLUMNS = {"s per s of audio": "seconds per second of audio", "peak memory, MiB": "peak memory, MiB"}


def tables(page: str) -> dict[str, list[dict[str, str]]]:
    """Title to rows, of the tables under titles that `speed.py` gives; people add others, of other columns."""
    found: dict[str, list[dict[str, str]]] = {}
    title, names = "", []
    for line in page.splitlines():
        if line.startswith("### "):
            title, names = line[4:], []
        elif not line.startswith("|"):
            names = []
        elif line.startswith("| ") and ", median of " in title:
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if not names:
                names = cells
            elif set(COLUMNS) <= set(names):
                found.setdefault(title, []).append(dict(zip(names, cells, strict=True)))
    return found


def main() -> None:
    page, picture = Path(sys.argv[1]), Path(sys.argv[2])
    found = tables(page.read_text())
    if not found:
        raise SystemExit(f"{page}: no tables of speed in it")
    sizes = [len(rows) for rows in found.values()]
    figure, axes = plt.subplots(
        len(found), 2, figsize=(11, 0.7 * len(found) + 0.32 * sum(sizes)), squeeze=False, layout="constrained",
        gridspec_kw={"height_ratios": sizes},
    )  # fmt: skip
    for (title, rows), pair in zip(found.items(), axes, strict=True):
        labels = [f"{row['']}, allocator {row['allocator']}" for row in rows]
        for axis, (column, name) in zip(pair, COLUMNS.items(), strict=True):
            values = [float(row[column]) for row in rows]
            colours = ["tab:blue" if row["allocator"] == "raised" else "tab:gray" for row in rows]
            bars = axis.barh(labels, values, color=colours)
            axis.bar_label(bars, [row[column] for row in rows], padding=3, fontsize=8)
            axis.invert_yaxis()
            axis.margins(x=0.15)
            axis.set_title(f"{title.rpartition(',')[0]}: {name}", fontsize=9)
            axis.tick_params(labelsize=8)
        pair[1].set_yticks([])
    figure.savefig(picture, dpi=90)


if __name__ == "__main__":
    main()
