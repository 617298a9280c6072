"""A process that takes deliveries and never acknowledges them: ``python -m tests.brokers.hold URL TOPIC COUNT``."""

from __future__ import annotations

import sys
import threading

from brokers import connect
from tests.brokers.kit import following, take

if __name__ == "__main__":
    url, topic, count = sys.argv[1:]
    with following(connect(url), topic) as reader:
        held = take(reader, int(count), acknowledge=False)
        sys.stdout.write(f"holding {len(held)}\n")
        sys.stdout.flush()
        threading.Event().wait(600)
