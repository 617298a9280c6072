"""``init``: a configuration to begin with, on stdout."""

from __future__ import annotations

import argparse
import sys

from gateway_agent.find import driver_folder, shipped_drivers
from schemas.errors import ConfigurationError

_GATEWAY = """\
# A gateway of IoTCloud. Check it with: iotcloud gateway check FILE
# Values may hold variables: ${VAR}, ${VAR:-default}, ${VAR:?message}.

[gateway]
id = "gateway-1"                # letters, digits, '_' and '-'; unique within the master
site = "site-1"                 # the first part of every topic
data_dir = "data"               # outbox and journal; on a local disk, beside this file if relative
# commands_transport = "main"   # carries commands and their results; the first transport if not given
# labels = { floor = "3" }

[transports.main]
url = "local:broker"            # or kafka://host:9092, amqps://user@host:5671/, mqtts://host:8883, …

# [outbox]
# max_bytes = "1GiB"            # what may wait for a broker
# when_full = "block"           # or drop_oldest, drop_newest; a channel may say otherwise

# [master]                      # without one the gateway runs from this file alone
# url = "http://127.0.0.1:8080"
# token = "file:token"

# [status]
# port = 9464                   # /metrics, /live, /ready, /api/v1/status on loopback; a free one if not given

# [applications.NAME.channels.CHANNEL]
# transport = "main"
# grouping = "single"           # a topic per device, instead of one for all
# schema = "my.avsc"
# when_full = "drop_oldest"

"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--driver", action="append", default=[], metavar="NAME", help="add an application of this driver; may be repeated"
    )


def run(given: argparse.Namespace) -> int:
    parts = [_GATEWAY]
    for name in given.driver:
        if name not in shipped_drivers():
            raise ConfigurationError(f"no driver {name!r}", remedy="one of " + ", ".join(shipped_drivers()))
        parts.append((driver_folder(name) / "sample.toml").read_text(encoding="utf-8"))
    sys.stdout.write("\n".join(part.rstrip("\n") + "\n" for part in parts))
    return 0
