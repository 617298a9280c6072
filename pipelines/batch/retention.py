"""``retention``: takes away hours of events that are older than what is to be kept."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Sequence

import msgspec

from pipelines.batch.account import Account
from pipelines.batch.options import batch_parser, duration_of, parse, text_of, time_of
from pipelines.batch.running import batch_job
from schemas.errors import ConfigurationError
from storage.events.files import open_files
from storage.events.hours import read_manifest, read_progress
from storage.events.layout import HOUR, PROGRESS, hours
from storage.events.manifest import encode


def main(arguments: Sequence[str]) -> int:
    """See `pipelines.run.main`. The journal stays as it is."""
    parser = batch_parser("retention", "Take away hours of events by age. Late events of such hours are not kept again.")
    parser.add_argument("--keep", metavar="AGE", help="such as 90d: hours that ended longer ago are taken away")
    parser.add_argument("--before", metavar="TIME", help="hours that ended by this time are taken away")
    parser.add_argument("--dry-run", action="store_true", help="say what would be taken away, and change nothing")
    options = parse(parser, arguments)
    if bool(options.keep) == bool(options.before):
        raise ConfigurationError("how much is to be kept?", remedy="give --keep AGE or --before TIME")
    limit = time_of(options.before) if options.before else time.time_ns() // 1_000 - duration_of(options.keep)
    limit = limit // HOUR * HOUR
    files = open_files(options.archive)
    old = hours(files, end=limit)
    if options.dry_run:
        manifests = [read_manifest(files, hour) for hour in old]
        for hour, manifest in zip(old, manifests, strict=True):
            sys.stdout.write(f"{hour}: {manifest.rows if manifest else 0} events\n")
        sys.stdout.write(f"{len(old)} hours before {text_of(limit)} would be taken away\n")
        return 0
    rows = 0
    with batch_job(f"retention-{uuid.uuid4()}", options) as job, files.alone():
        files.recover()
        progress = read_progress(files)
        account = Account()
        account.add(progress.removed, where="", twice=False)
        # First it is known that they are gone: a kill in between leaves hours that the next run takes away.
        for hour in old:
            if manifest := read_manifest(files, hour):
                account.add(manifest.identities, where="", twice=False)
                rows += manifest.rows
        kept_from = max(limit, progress.kept_from or limit)
        files.replace(PROGRESS, encode(msgspec.structs.replace(progress, removed=account.identities(), kept_from=kept_from)))
        for hour in old:
            job.check()
            files.remove(hour.path)
        files.recover()
    sys.stdout.write(f"{len(old)} hours with {rows} events before {text_of(limit)} were taken away\n")
    return 0
