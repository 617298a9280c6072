"""The link of a publisher or reader: made when first needed, and again after it was lost."""

from __future__ import annotations

import random
import threading
import time

from brokers.errors import BrokerRefused, BrokerUnavailable
from brokers.rabbitmq.address import Address
from brokers.rabbitmq.failures import LinkFailed, describe
from brokers.rabbitmq.link import Link
from brokers.url import Host


class Connector:
    """Keeps at most one link. `close` may come from any thread, the rest from one."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._closed = False
        # Any host first, so that not all gateways crowd on one node.
        self._turn = random.randrange(len(address.hosts))

    @property
    def closed(self) -> bool:
        return self._closed

    def link(self, deadline: float, about: str) -> Link:
        """The link there is, or a new one to the first host, from any on, that takes it.

        ``about`` says in errors what it is for. Raises `BrokerUnavailable`, and `BrokerRefused` at the first host
        that refuses, because the hosts are those of one cluster.
        """
        if self._link is not None and not self._link.failed:
            return self._link
        hosts = self.address.hosts
        for left in range(len(hosts), 0, -1):
            try:
                # The time is shared, so that a host that does not answer leaves some for the others.
                share = max(0.05, (deadline - time.monotonic()) / left)
                return self._open(hosts[self._turn % len(hosts)], share, about)
            except (LinkFailed, TimeoutError) as error:
                failure = self.describe(about, error)
                self._turn += 1
                if isinstance(failure, BrokerRefused) or self._closed:
                    break
        raise failure

    def describe(self, about: str, error: BaseException) -> BrokerUnavailable | BrokerRefused:
        """What went wrong, for people."""
        if self._closed:
            return BrokerUnavailable(f"{self.address.url}: {about}: it was closed", remedy="make another one")
        return describe(self.address.url, self.address.user, about, error)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            link = self._link
        if link is not None:
            link.close()

    def _open(self, host: Host, timeout: float, about: str) -> Link:
        parameters = self.address.parameters(host, timeout, about)
        with self._lock:
            if self._closed:
                raise LinkFailed(ConnectionAbortedError("it was closed"))
            link = self._link = Link(parameters)
        try:
            link.open(time.monotonic() + timeout)
        except BaseException as error:
            link.fail(error)
            raise
        return link
