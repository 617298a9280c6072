"""Round trips gateway → broker → processing → broker → gateway, by size of messages and rate, on every broker.

What is measured: a driver emits a Blob event of the size at the rate; the gateway's agent writes it to its outbox (with a
sync of the disk) and publishes it; a process reads the topic, decodes the frame and publishes a command with the same
content; the agent writes that to its journal (again with a sync) and hands it to the driver. Times are the driver's, by one
monotonic clock, from `emit` to `on_command`. Driver, agent, processing and the server are four processes on one machine.

What is not: the processing is a reader of the topic and no job; what a whole Prism job adds is in `./dev bench latency`.

A rate counts as sustained when at least 90 % of it came back and nothing was lost. One that was not is tried once more, and
the better try counts; if it failed too, larger rates of the same size are not tried. One row repeats what the papers of
IoTCloud have published: ActiveMQ, 7,680 B at 30/s, under 300 ms up to about 200 clients (on machines of their own; here each
client is a device of one gateway).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.measure import RESULTS, progress, write_result
from benchmarks.round_trips.cells import Cell, Outcome
from benchmarks.round_trips.plots import plot_clients, plot_grid
from benchmarks.round_trips.run import as_row, run
from benchmarks.servers import chosen
from schemas.errors import IoTCloudError

EXAMPLES: Final = """\
examples:
  ./dev bench grid
  ./dev bench grid --quick
  ./dev bench grid --brokers NAME,NAME --sizes 100,10000 --rates 10,100 --seconds 10
"""
SIZES: Final = (100, 1_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000)
RATES: Final = (10, 20, 30, 50, 100)
QUICK_SIZES: Final = (100, 10_000, 200_000)
QUICK_RATES: Final = (10, 100)

#: What was published, and clients to repeat it with.
PUBLISHED_ON: Final = "activemq"
PUBLISHED: Final = Cell(size=7_680, rate=30)
PUBLISHED_MS: Final = 300
CLIENTS: Final = (1, 2, 5, 10, 20, 40, 100, 200)
NOTE: Final = "a gateway's agent, a process that answers each event with a command, and the server on one machine"


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part.replace("_", "")) for part in text.split(","))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./dev bench grid", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--brokers",
        default="",
        metavar="NAME,…",
        help="only these; nothing is kept then (by default all that there are servers for)",
    )
    parser.add_argument("--sizes", type=_numbers, metavar="BYTES,…", help="by default " + ",".join(map(str, SIZES)))
    parser.add_argument("--rates", type=_numbers, metavar="RATE,…", help="per second, by default " + ",".join(map(str, RATES)))
    parser.add_argument("--seconds", type=float, help="length of a cell (3; with --quick 1.5)")
    parser.add_argument("--quick", action="store_true", help="a few cells of each broker: a look; nothing is kept")
    return parser


def cells_of(broker: str, sizes: Sequence[int], rates: Sequence[int], *, clients: Sequence[int]) -> list[Cell]:
    """Those of a broker, small rates first."""
    cells = [Cell(size=size, rate=rate) for size in sizes for rate in sorted(rates)]
    if broker == PUBLISHED_ON:
        cells += [Cell(size=PUBLISHED.size, rate=PUBLISHED.rate, clients=number) for number in clients]
    return cells


def measure(grid: dict[str, list[Cell]], *, seconds: float) -> dict[str, list[Outcome]]:
    """Outcomes by broker, with a bar for who waits."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    found: dict[str, list[Outcome]] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=sum(map(len, grid.values())))

        for broker, cells in grid.items():

            def tell(outcome: Outcome, broker: str = broker) -> None:
                bar.update(task, advance=1, description=f"{broker}: {outcome.cell.size:,} B, {outcome.cell.total_rate}/s")

            bar.update(task, description=f"{broker}: starting")
            if not console.is_terminal:
                progress(f"{broker}: {len(cells)} cells")
            found[broker] = run(broker, cells, seconds=seconds, tell=tell)
    return found


def _line(outcome: Outcome) -> str:
    cell = outcome.cell
    times = "  ".join(f"{one:8.1f}" if one is not None else f"{'-':>8}" for one in (outcome.p50, outcome.p95, outcome.p99))
    problem = f"  NOT SUSTAINED ({outcome.problem})" if outcome.tried and outcome.problem else ""
    if not outcome.tried:
        problem = f"  {outcome.problem}"
    return f"{cell.size:8,}  {cell.rate:4}  {cell.clients:7}  {outcome.back:5}  {outcome.reached:9.1f}  {times}{problem}"


def _show(found: dict[str, list[Outcome]]) -> None:
    for broker, outcomes in found.items():
        sys.stdout.write(f"\n{broker}\n   bytes   1/s  clients   back  reached/s    p50 ms    p95 ms    p99 ms\n")
        sys.stdout.write("".join(f"{_line(outcome)}\n" for outcome in outcomes))


def _keep(found: dict[str, list[Outcome]], *, seconds: float, load: Sequence[float]) -> None:
    rows = [as_row(broker, outcome) for broker, outcomes in found.items() for outcome in outcomes]
    figures = {
        "what": f"round trips gateway, broker, processing, broker, gateway: {NOTE}",
        "load_average_before_and_after": [round(one, 2) for one in load],
        "seconds_of_a_cell": seconds,
        "published": {"broker": PUBLISHED_ON, "size": 7680, "rate": 30, "clients": "up to about 200", "below_ms": PUBLISHED_MS},
        "cells": rows,
    }
    progress(f"written to {write_result('grid', figures)}")
    of_grid = {broker: [one for one in outcomes if one.cell.size != PUBLISHED.size] for broker, outcomes in found.items()}
    for share in ("p50", "p95"):
        plot_grid(of_grid, share, RESULTS / f"grid-{share}.png", note=NOTE)
    if published := [one for one in found.get(PUBLISHED_ON, []) if one.cell.size == PUBLISHED.size]:
        title = f"{PUBLISHED_ON}, {PUBLISHED.size:,} B at {PUBLISHED.rate}/s of each client\n{NOTE}"
        plot_clients(published, RESULTS / "grid-clients.png", title=title, limit=PUBLISHED_MS)


def main(arguments: list[str]) -> int:
    """Prints tables; writes ``results/grid.json`` and ``results/grid-*.png``. Returns 2 when a server cannot be had."""
    options = _parser().parse_args(arguments)
    sizes = options.sizes or (QUICK_SIZES if options.quick else SIZES)
    rates = options.rates or (QUICK_RATES if options.quick else RATES)
    seconds = options.seconds or (1.5 if options.quick else 3.0)
    load = [os.getloadavg()[0]]
    try:
        grid = {
            name: cells_of(name, sizes, rates, clients=CLIENTS[:1] if options.quick else CLIENTS)
            for name in chosen(options.brokers)
        }
        found = measure(grid, seconds=seconds)
    except (IoTCloudError, TimeoutError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return 2
    load.append(os.getloadavg()[0])
    _show(found)
    if not options.quick and not options.brokers:
        _keep(found, seconds=seconds, load=load)
    return 0
