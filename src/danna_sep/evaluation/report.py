"""Results to read: tables of text, a page that needs nothing else, a box plot."""

from __future__ import annotations

import html
import importlib.util
import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from danna_sep import atomic
from danna_sep.errors import OutputExists
from danna_sep.evaluation.results import MEAN, MEASURES, Results, SongResult, write_results
from danna_sep.types import SOURCES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS_NAME: Final = "results.json"
PAGE_NAME: Final = "report.html"
PLOT_NAME: Final = "boxplot.png"

Row = tuple[str, ...]

_NONE: Final = "-"
_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } th, td { padding: .2em .8em; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left } tr:nth-child(even) td { background: #f4f4f4 }
th { border-bottom: 1px solid #888 } svg { max-width: 100%; height: auto } code { overflow-wrap: anywhere }
""".strip()


def can_plot() -> bool:
    """Whether matplotlib, of the extra `evaluate`, is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def check_folder(folder: Path, overwrite: bool) -> None:
    """Raise OutputExists if a report lies in the folder and may not be overwritten."""
    for name in (RESULTS_NAME, PAGE_NAME, PLOT_NAME):
        if os.path.lexists(folder / name) and not overwrite:
            raise OutputExists(f"{folder / name}: exists already; --overwrite replaces it")


def write_report(folder: Path, results: Results) -> list[Path]:
    """Write results.json, report.html and, if matplotlib is installed, boxplot.png; gives their paths.

    Raises:
        WriteFailed: The folder cannot be written, or the disk is full.
    """
    written = [folder / RESULTS_NAME, folder / PAGE_NAME]
    plot = box_plot(results) if can_plot() else None
    write_results(written[0], results)
    with atomic.replacing(written[1]) as file:
        file.write(page(results, None if plot is None else _svg(plot)).encode())
    if plot is None:
        (folder / PLOT_NAME).unlink(missing_ok=True)  # an older evaluation's would contradict the rest
    else:
        with atomic.replacing(folder / PLOT_NAME) as file:
            plot.savefig(file, format="png", dpi=120)
        written.append(folder / PLOT_NAME)
    return written


def aggregate_rows(results: Results) -> list[Row]:
    """Measures over all songs, with a row of headings."""
    rows: list[Row] = [("", *SOURCES, MEAN)]
    if results.has_bss_eval:
        rows += [(f"{measure}, BSS Eval v4", *_cells(results.bss_eval_db(measure))) for measure in MEASURES]
    return [
        *rows,
        ("SDR, MDX 2021", *_cells(results.mdx_sdr_db())),
        ("songs", *(str(count) for count in results.n_songs().values()), ""),
    ]


def song_rows(songs: Sequence[SongResult], value: Callable[[SongResult, str], float | None]) -> list[Row]:
    """A value for each song and source, with a row of headings."""
    return [
        ("song", *SOURCES),
        *((song.name, *_cells({source: value(song, source) for source in SOURCES})) for song in songs),
    ]


def bss_sdr(song: SongResult, source: str) -> float | None:
    """Median over windows of BSS Eval's SDR, dB."""
    return song.bss_eval_db(source)


def mdx_sdr(song: SongResult, source: str) -> float | None:
    """SDR of the MDX challenge, dB."""
    return song.mdx_sdr_db[source]


def page(results: Results, plot: str | None) -> str:
    """An HTML page that needs no other file.

    Args:
        results: What to show.
        plot: The box plot as SVG; None for a page without.
    """
    title = f"Evaluation of {results.system.get('name', 'a system')}"
    data = f"{results.data.get('name', '')}" + (f", {results.data['split']}" if results.data.get("split") else "")
    parts = [
        f"<h1>{_text(title)}</h1>",
        f"<p>{len(results.songs)} songs of {_text(data)}; measured by {_text(results.package)}. Ratios in dB.</p>",
        _table(aggregate_rows(results)),
        "<p>BSS Eval v4: median over windows of 1 s, then over songs. MDX 2021: of whole songs, mean over songs. "
        f"{_NONE} where there is nothing to measure: a source that is not annotated, silent, or was not separated, "
        "or without any error.</p>",
    ]
    if results.failed:
        items = "".join(f"<li>{_text(failed.message)}</li>" for failed in results.failed)
        parts.append(f"<h2>Not in these figures: songs that failed</h2><ul>{items}</ul>")
    if plot:
        parts.append(f"<h2>Over songs</h2>{plot}")
    if results.has_bss_eval:
        parts.append("<h2>SDR of each song, BSS Eval v4</h2>" + _table(song_rows(results.songs, bss_sdr)))
    parts.append("<h2>SDR of each song, MDX 2021</h2>" + _table(song_rows(results.songs, mdx_sdr)))
    parts.append(f"<h2>System</h2><table>{''.join(_system_rows(results.system))}</table>")
    head = f'<meta charset="utf-8"><title>{_text(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(parts) + "\n</body></html>\n"


def box_plot(results: Results) -> Figure:
    """Each measure's distribution over songs, for each source: box from quartile to quartile, a dot for each song."""
    from matplotlib.figure import Figure

    panels: list[tuple[str, Callable[[SongResult, str], float | None]]] = []
    if results.has_bss_eval:
        panels += [(f"{measure}, BSS Eval v4", _of_measure(measure)) for measure in MEASURES]
    panels.append(("SDR, MDX 2021", mdx_sdr))
    figure = Figure(figsize=(2.6 * len(panels), 3.4), layout="constrained")
    for axis, (title, value) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        values = [[x for song in results.songs if (x := value(song, source)) is not None] for source in SOURCES]
        axis.boxplot(values, widths=0.6, showfliers=False, medianprops={"color": "tab:red"})
        for place, column in enumerate(values, 1):
            axis.plot([place] * len(column), column, ".", color="tab:blue", alpha=0.5, markersize=4)
        axis.set_xticks(range(1, len(SOURCES) + 1), SOURCES)
        axis.set_title(title, fontsize=10)
        axis.grid(axis="y", alpha=0.3)
    figure.axes[0].set_ylabel("dB")
    return figure


def _of_measure(measure: str) -> Callable[[SongResult, str], float | None]:
    return lambda song, source: song.bss_eval_db(source, measure)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _cells(values: Mapping[str, float | None]) -> Row:
    return tuple(_NONE if value is None else f"{value:.2f}" for value in values.values())


def _table(rows: Sequence[Row]) -> str:
    head, *body = rows
    lines = ["<tr>" + "".join(f"<th>{_text(cell)}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in body]
    return f"<table>{''.join(lines)}</table>"


def _system_rows(system: Mapping[str, Any], prefix: str = "") -> list[str]:
    rows: list[str] = []
    for name, value in system.items():
        if isinstance(value, Mapping):
            rows += _system_rows(value, f"{prefix}{name} ")
        else:
            rows.append(f"<tr><td>{_text(prefix + name)}</td><td><code>{_text(value)}</code></td></tr>")
    return rows


def _text(value: object) -> str:
    return html.escape(str(value))
