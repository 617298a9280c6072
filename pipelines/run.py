"""``python -m pipelines.run JOB --runner=RUNNER [options]``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from pipelines import batch
from pipelines.options import Options, parse_options
from schemas.errors import ConfigurationError, IoTCloudError
from telemetry import logs


def main(argv: Sequence[str] | None = None) -> int:
    """Run a job. Returns 0 when it ended as it should, 1 when it failed, 2 when it could not be started as asked."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments and arguments[0] in batch.JOBS:
            return int(import_module(batch.JOBS[arguments[0]]).main(arguments[1:]))
        options = parse_options(arguments)
        logs.configure(level=options.log_level)
        return _run(options)
    except SystemExit as leaving:
        return int(leaving.code or 0)
    except IoTCloudError as error:
        sys.stderr.write(error.told)
        return 2 if isinstance(error, ConfigurationError) else 1


def _run(options: Options) -> int:
    from pipelines import launch

    plan = launch.plan(options)
    if options.dry_run:
        return launch.show(plan)
    return launch.run(plan)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Beam's worker threads are not daemons and may wait for a runner that is gone.
    os._exit(code)
