"""``check``: whether a configuration holds, without touching devices, brokers or the master."""

from __future__ import annotations

import argparse
import sys

from schemas.errors import IoTCloudError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="configuration, TOML")


def run(given: argparse.Namespace) -> int:
    """Exit status 1 when anything is wrong; every application is looked at."""
    from gateway_agent.check import check_application, check_places
    from gateway_agent.config import load_config

    loaded = load_config(given.file)
    wrong = 0
    try:
        check_places(loaded)
    except IoTCloudError as error:
        wrong += 1
        sys.stderr.write(error.told)
    for name in loaded.config.applications:
        try:
            channels = check_application(loaded, name)
        except IoTCloudError as error:
            wrong += 1
            sys.stderr.write(error.told)
        else:
            sys.stdout.write(f"✓ {name}: " + (", ".join(channels) or "no channels") + "\n")
    if not wrong:
        sys.stdout.write(
            f"✓ {given.file}: {len(loaded.config.applications)} applications, {len(loaded.config.transports)} transports\n"
        )
    return 1 if wrong else 0
