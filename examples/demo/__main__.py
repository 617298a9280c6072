"""``./dev demo``: a recording in; windows, commands and an archive out; then batch jobs; and a summary that proves itself."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from examples.demo.broker import EMBEDDED, names
from examples.demo.layout import RECORDING, Layout
from examples.demo.live import view
from examples.demo.observe import Snapshot
from examples.demo.run import Demonstration, Request
from examples.demo.stores import ARCHIVES, DATABASES, LOCAL, SQLITE
from schemas.errors import ConfigurationError, IoTCloudError

_DEFAULT_OUT = Path("out/demo")
_EXAMPLES = """\
examples:
  ./dev demo                                  watch six hours of a sensor network in about a minute
  ./dev demo --speed 3600                     ten times as fast
  ./dev demo --broker mqtt                    over a real server, which is installed if need be
  ./dev demo --store hdfs --db postgres       into real stores, which are installed if need be
  ./dev demo --store hdfs --db cassandra --broker kafka
  ./dev demo --once --json --csv recording.csv --out results
                                              nobody watching; one JSON object on stdout; exit 0 only if all of it holds

A recording is a CSV file with the columns reading, mote_id, humidity and temperature: reading N of a mote was taken
(N - 1) × 5 s after 2010-05-09T00:00:00Z.
"""


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 when every check holds, 1 when one does not or the run failed, 2 for wrong usage."""
    given = _parser().parse_args(arguments)
    console = Console(stderr=True)
    try:
        layout = _prepare(given.out)
        if not given.csv.is_file():
            raise ConfigurationError(f"no recording at {given.csv}", remedy="name a CSV file")
        request = Request(given.csv.absolute(), layout, given.speed, given.broker, given.store, given.db)
        proof, summary = _run(request, console, quiet=given.once)
    except IoTCloudError as error:
        if given.json:
            sys.stdout.write(json.dumps({"ok": False, "failed": [str(error)]}) + "\n")
        sys.stderr.write(error.told)
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    (layout.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    if given.json:
        sys.stdout.write(json.dumps(summary) + "\n")
    else:
        _print(summary, Console())
    return 0 if not proof.failed else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./dev demo", description=__doc__, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--once", action="store_true", help="without a live table, for scripts")
    parser.add_argument("--json", action="store_true", help="the summary as one JSON object on stdout")
    parser.add_argument("--csv", type=Path, default=RECORDING, metavar="FILE", help="another recording of this form")
    parser.add_argument(
        "--broker", default=EMBEDDED, choices=names(), help="broker of the gateway's events and commands (default: %(default)s)"
    )
    parser.add_argument(
        "--store", default=LOCAL, choices=ARCHIVES, help="where the archive is kept: DIR/archive, or HDFS (default: %(default)s)"
    )
    parser.add_argument(
        "--db", default=SQLITE, choices=list(DATABASES), help="database of windows and commands (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"where to leave everything (default: {_DEFAULT_OUT}, emptied)")
    parser.add_argument("--speed", type=float, default=360.0, metavar="X", help="times the recorded pace (default: 360)")
    return parser


def _prepare(out: Path | None) -> Layout:
    """An empty directory to work in. Only the default one is emptied."""
    chosen = (out or _DEFAULT_OUT).absolute()
    if out is None and chosen.exists():
        shutil.rmtree(chosen)
    if chosen.exists() and (not chosen.is_dir() or any(chosen.iterdir())):
        raise ConfigurationError(f"{chosen} is not an empty directory", remedy="name another one, or empty it")
    chosen.mkdir(parents=True, exist_ok=True)
    return Layout(chosen)


def _run(request: Request, console: Console, *, quiet: bool) -> tuple[Any, dict[str, Any]]:
    if quiet or not console.is_terminal:
        return Demonstration(request, _Progress(console)).run()
    with Live(console=console, refresh_per_second=4, screen=False) as live:
        return Demonstration(request, lambda now: live.update(view(now))).run()


class _Progress:
    """A line when the phase changes, and at every tenth of the replay."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: tuple[str, int] = ("", -1)

    def __call__(self, now: Snapshot) -> None:
        tenth = now.replayed * 10 // max(now.expected, 1)
        if (now.phase, tenth) != self._said:
            self._said = (now.phase, tenth)
            replayed = f"{now.replayed:,} of {now.expected:,} readings"
            line = f"· {now.phase}: {replayed}, {now.window_rows:,} windows, {len(now.commands)} commands"
            self._console.print(line, highlight=False, soft_wrap=True)


def _print(summary: dict[str, Any], console: Console) -> None:
    table = Table(title="ledger", title_justify="left", box=None, pad_edge=False, header_style="dim")
    names = ("accepted", "published", "archived", "counted_in_windows")
    table.add_column("topic")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for topic, of in summary["topics"].items():
        table.add_row(topic, *(f"{of[name]:,}" for name in names))
    table.add_row("[bold]all[/]", *(f"[bold]{summary[name]:,}[/]" for name in names))
    console.print(table)
    latency = summary["commands"]["latency_seconds"]
    windows, again = summary["windows"], summary["reprocessed"]
    for line in (
        ", ".join(f"{name.replace('_', ' ')} {summary[name]}" for name in ("duplicates", "gaps", "dead_letters", "rejected")),
        f"windows {windows['rows']:,}; {windows['compared']:,} compared with plain Python, {windows['wrong']} differ",
        (
            f"commands sent {summary['commands']['sent']}, executed {summary['commands']['executed']}"
            + (f", median {latency['median'] * 1e3:,.0f} ms from rule to device" if latency else "")
        ),
        (
            f"events sorted by time and verified {summary['events']['compacted']:,}, in {summary['events']['hours']} hours; "
            f"windows computed again from them {again['windows']:,}, {again['different']} differ"
        ),
        f"took {summary['seconds']} s, of it " + ", ".join(f"{job} {took} s" for job, took in summary["seconds_of"].items()),
        f"database  {_place(summary['database'])}",
        f"archive   {_place(summary['archive'])}",
        f"logs      {summary['out']}/logs",
    ):
        console.print(line, highlight=False, soft_wrap=True)
    if summary["ok"]:
        console.print("[green]✓ accepted = published = archived = counted in windows = sorted and verified[/]")
        console.print("[green]✓ windows and commands come out the same from what is stored[/]")
    for problem in summary["failed"]:
        console.print(f"[red]✗ {problem}[/]", soft_wrap=True)


def _place(place: str) -> str:
    return f"{place} (ended with the run)" if "://" in place else place


if __name__ == "__main__":
    sys.exit(main())
