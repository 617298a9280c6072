"""``./dev bench latency``: device → broker → pipeline → rule → broker → device, and back at the driver that emitted.

One gateway, one pipeline on Prism, the `local` broker; every event fires a rule whose command carries the event's
number back. Times are taken in the driver's process, by one monotonic clock.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import percentile, progress, write_result

RATES = (10, 30, 100)
_START_SECONDS = 60.0
#: Seconds that do not count, while every part does what it does for the first time.
_WARM_UP = 5

GATEWAY = """\
[gateway]
id = "bench"
site = "bench"
data_dir = "{folder}/gateway"

[transports.main]
url = "local:{folder}/broker"

[applications.echo]
driver = "benchmarks.echo:EchoDriver"

[applications.echo.settings]
rate = {rate}
count = {count}
warm_up = {warm_up}
out = "{folder}/took.json"
"""

PIPELINE = """\
[rules.echo]
on = "events"
channel = "ping"
when = "value >= 0"
trigger = "each"
command = { gateway = "bench", device = "{device}", name = "echo", args = { number = "{value}" } }
"""


def round_trips(rate: int, count: int) -> list[float | None]:
    """Seconds of ``count`` round trips at ``rate`` a second; None for one that did not come back."""
    warm_up = _WARM_UP * rate
    with tempfile.TemporaryDirectory(prefix="iotcloud-latency-") as name:
        folder = Path(name)
        (folder / "broker").mkdir()
        (folder / "gateway.toml").write_text(GATEWAY.format(folder=folder, rate=rate, count=count, warm_up=warm_up))
        (folder / "pipeline.toml").write_text(PIPELINE)
        with (folder / "log").open("wb") as log:
            pipeline = subprocess.Popen(
                [
                    *(sys.executable, "-m", "pipelines.run", "realtime", "--runner=PrismRunner"),
                    *("--source", f"local:{folder}/broker/bench.echo.ping", "--pipeline", str(folder / "pipeline.toml")),
                    *("--sink", f"sqlite:{folder}/results.sqlite", "--state", str(folder / "state")),
                    *("--status-file", str(folder / "status.json")),
                ],
                stdout=log,
                stderr=log,
            )
            gateway = None
            try:
                _wait_for(folder / "status.json", folder)
                gateway = subprocess.Popen(
                    [sys.executable, "-m", "gateway_agent", "run", str(folder / "gateway.toml")], stdout=log, stderr=log
                )
                _wait_for(folder / "took.json", folder, seconds=_START_SECONDS + (warm_up + count) / rate)
            finally:
                for process in (gateway, pipeline):
                    if process is not None:
                        process.terminate()
                        process.wait(timeout=60)
        took: list[float | None] = json.loads((folder / "took.json").read_text())
        return took


def _wait_for(path: Path, folder: Path, *, seconds: float = _START_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path.name} did not appear: {(folder / 'log').read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)


def main(arguments: list[str]) -> int:
    """Prints a table and writes ``results/latency.json``; returns 1 when a command did not come back."""
    count = 100 if "--quick" in arguments else 500
    rows = []
    for rate in RATES:
        took = round_trips(rate, count)
        back = [seconds for seconds in took if seconds is not None]
        figures = {f"p{int(fraction * 100)}_ms": round(percentile(back, fraction) * 1e3, 1) for fraction in (0.5, 0.95, 0.99)}
        rows.append({"rate": rate, "sent": len(took), "back": len(back), **figures})
        progress(f"{rate}/s: {rows[-1]}")
    path = write_result("latency", {"round_trips": rows})
    sys.stdout.write("rate/s   sent   back   p50 ms   p95 ms   p99 ms\n")
    for row in rows:
        sys.stdout.write(
            f"{row['rate']:6}  {row['sent']:5}  {row['back']:5}  {row['p50_ms']:7}  {row['p95_ms']:7}  {row['p99_ms']:7}\n"
        )
    sys.stdout.write(f"{path}\n")
    return 0 if all(row["sent"] == row["back"] for row in rows) else 1
