"""``iotcloud prove``: the ledger of the whole system, from the outboxes of gateways to the archive."""

from __future__ import annotations

import argparse
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from brokers.url import split_topics
from pipelines.batch.progress import BatchProgress
from pipelines.batch.working import whole
from pipelines.prove.gateways import of_master, of_place
from pipelines.prove.ledger import Row, rows_of
from pipelines.prove.reading import Shelf
from pipelines.prove.report import Report, print_json, print_table
from pipelines.prove.sources import read_archive, read_brokers
from schemas.errors import ConfigurationError, IoTCloudError
from schemas.ledger import GatewayLedger, TopicLedger
from schemas.registry import Schemas
from storage import open_journal
from telemetry import logs

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*:")
_EPILOG: Final = """\
exit status: 0 when every event is accounted for; 1 when some are unexplained, which are listed by sequence; 2 when it could
not be asked like that, or something could not be reached; 3 when nothing is missing as far as was looked, but not all could
be decided: it says then what to do.

examples:
  iotcloud prove --gateway gateway.toml --archive archive
  iotcloud prove --gateway gateway.toml --source kafka://broker.example.com:9092/site.app.temperature --archive archive
  iotcloud prove --master http://master.example.com:8080 --archive hdfs://namenode.example.com:9870/iot --final
  ssh gateway-7 iotcloud gateway outbox ledger gateway.toml > gateway-7.json
  iotcloud prove --gateway gateway-7.json --archive archive --json
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status, as ``--help`` says."""
    try:
        options = _parser().parse_args(arguments)
        logs.configure(level="warning")
        report = prove(options)
    except SystemExit as leaving:
        return int(leaving.code or 0)
    except KeyboardInterrupt:
        return 130
    except IoTCloudError as error:
        sys.stderr.write(error.told)
        return 2
    (print_json if options.json else print_table)(report)
    return report.status


def prove(options: argparse.Namespace) -> Report:
    """Look into everything in the order in which events go: what moves on is found further on. Raises `IoTCloudError`."""
    sources = [split_topics(text) for text in options.source]
    ledgers, remarks, schemas = _ask_gateways(options)
    shelf = Shelf(schemas)
    journal = open_journal(options.archive if _SCHEME.match(options.archive) else f"files:{options.archive}", schemas)
    try:
        found = [kept for kept in whole(journal) if not options.topic or kept.topic in options.topic]
        with _progress(sum(piece.next - piece.first for piece in found), shown=options.progress) as progress:
            problems = read_archive(journal, found, shelf, progress)
            problems += read_brokers(sources, options.state, found, shelf, progress)
    finally:
        journal.close()
    shelf.close()
    asked = {topic for _, topics in sources for topic in topics}
    rows, uncounted = _rows(shelf, ledgers, options, asked)
    if not rows and not ledgers:
        raise ConfigurationError("there is nothing to prove", remedy="name an archive that holds events, or a gateway")
    return Report(rows, options.final, problems, [*remarks, *_remarks(shelf, uncounted)])


def _ask_gateways(options: argparse.Namespace) -> tuple[list[GatewayLedger], list[str], Schemas]:
    from pipelines.config import load_config, load_schemas
    from schemas.registry import load_event_schema

    schemas = [*load_schemas(load_config(options.pipeline), options.pipeline), *map(load_event_schema, options.schema)]
    ledgers = [of_place(place) for place in options.gateway]
    remarks: list[str] = []
    if options.master:
        told, silent, more = of_master(options.master, options.token)
        known = {ledger.gateway for ledger in ledgers}
        ledgers += [ledger for ledger in told if ledger.gateway not in known]
        remarks += [f"remark       the master has no counters of {name}" for name in silent if name not in known]
        schemas += more
    return ledgers, remarks, Schemas(schemas)


def _rows(
    shelf: Shelf, ledgers: Sequence[GatewayLedger], options: argparse.Namespace, asked: set[str]
) -> tuple[list[Row], list[str]]:
    """Rows by gateway and topic, and the gateways that have told no counters."""
    counters: dict[tuple[str, str], TopicLedger] = {}
    for ledger in ledgers:
        for one in ledger.topics:
            if not options.topic or one.topic in options.topic:
                counters[one.topic, ledger.gateway] = one
                shelf.book(one.topic, ledger.gateway)
    rows: list[Row] = []
    for (topic, gateway), book in sorted(shelf.books.items(), key=lambda item: (item[0][1], item[0][0])):
        if not options.topic or topic in options.topic:
            settled = options.final or topic in asked
            rows += rows_of(topic, gateway, book, counters.get((topic, gateway)), settled=settled)
    told = {ledger.gateway for ledger in ledgers}
    return rows, sorted({row.gateway for row in rows} - told)


def _remarks(shelf: Shelf, uncounted: Sequence[str]) -> Iterator[str]:
    if uncounted:
        yield "remark       no counters of " + ", ".join(uncounted) + ": what is known of them is what the log says"
    for topic, number in shelf.nobodys.items():
        yield f"remark       {number} dead letters of {topic} do not say which gateway they are of"
    for fingerprint, number in shelf.unknown.items():
        yield f"remark       {number} frames of schema {fingerprint}, which is not known: give --schema, --pipeline or --master"


@contextmanager
def _progress(total: int, *, shown: str) -> Iterator[BatchProgress]:
    """Offsets of the archive that were read, as a bar on a terminal."""
    progress = BatchProgress()
    if shown == "never" or (shown == "auto" and not sys.stderr.isatty()):
        yield progress
        return
    from rich.console import Console
    from rich.progress import Progress

    ended = threading.Event()
    with Progress(console=Console(stderr=True, force_terminal=shown == "always" or None)) as bar:
        task = bar.add_task("reading", total=total)

        def follow() -> None:
            while not ended.wait(0.1):
                bar.update(task, completed=progress.done)

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            yield progress
        finally:
            ended.set()
            follower.join()
            bar.update(task, completed=progress.done)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="iotcloud prove",
        description="Hold what gateways have accepted against what is stored, by gateway, epoch and topic: every event is stored,"
        " in the broker, still buffered, dead-lettered, dropped with a reason, or unexplained.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--archive", required=True, metavar="URL", help="the archive: a directory, or a store's URL")
    accepted = parser.add_argument_group("what was accepted")
    accepted.add_argument(
        "--gateway",
        type=Path,
        action="append",
        default=[],
        metavar="PLACE",
        help="a gateway's configuration, data directory or outbox; or FILE.json that 'gateway outbox ledger' has written;"
        " may be repeated",
    )
    accepted.add_argument("--master", default="", metavar="URL", help="ask this master what gateways have told it last")
    accepted.add_argument("--token", default="", help="token for the master; ${VAR} and file:PATH are understood")
    under_way = parser.add_argument_group("what is under way")
    under_way.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="URL/TOPIC[,TOPIC]",
        help="read the log of a broker behind the archive; may be repeated",
    )
    under_way.add_argument(
        "--state", type=Path, metavar="DIR", help="the archive job's --state, where a topic is on several brokers"
    )
    under_way.add_argument(
        "--final", action="store_true", help="the archive holds all that was published: what is missing then is unexplained"
    )
    parser.add_argument("--topic", action="append", default=[], help="only this topic; may be repeated")
    parser.add_argument("--pipeline", type=Path, metavar="FILE", help="a pipeline's TOML file, for the schemas it names")
    parser.add_argument("--schema", type=Path, action="append", default=[], metavar="FILE", help="an .avsc file; may be repeated")
    parser.add_argument("--json", action="store_true", help="print the ledger as JSON")
    parser.add_argument("--progress", choices=("auto", "always", "never"), default="auto", help="a bar, by default on a terminal")
    return parser


if __name__ == "__main__":
    sys.exit(main())
