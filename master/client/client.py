"""`Client`: a master, as a program sees it. All of it is synchronous."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from master import views
from master.client import changes
from master.client.catalogue import Catalogue
from master.client.command import SentCommand
from master.client.errors import MasterRefused
from master.client.http import Http, quoted
from master.client.select import Selected, TopicAddress, select, topics
from master.client.subscription import Start, Subscription, Unreadable
from master.identifiers import uuid7
from master.selection import Selection, parse_selection
from schemas.errors import ConfigurationError
from schemas.registry import EventSchema


class Client:
    """A connection to the master at ``url``.

    ``token`` may be ``file:PATH``; by default it is that of the variable ``IOTCLOUD_TOKEN``, if any. ``ca`` is a file
    of certificates to trust. ``timeout`` (seconds) is for one request. All methods raise `MasterError`.
    """

    def __init__(self, url: str, token: str | None = None, *, ca: Path | str | None = None, timeout: float = 10.0) -> None:
        self._http = Http(url, token, ca=ca, timeout=timeout)
        self._catalogue = Catalogue(self._http)

    def sites(self) -> list[views.Site]:
        return self._http.get("/sites", list[views.Site])

    def gateways(self, **filters: str) -> list[views.Gateway]:
        """``filters``: site, gateway, label ("key:value"), state."""
        return list(self._http.pages("/gateways", views.Gateway, list(filters.items())))

    def applications(self, **filters: str) -> list[views.Application]:
        """``filters``: site, gateway, application, label ("key:value")."""
        return list(self._http.pages("/applications", views.Application, list(filters.items())))

    def devices(self, **filters: str) -> list[views.Device]:
        """``filters``: site, gateway, application, device, channel, label ("key:value")."""
        return list(self._http.pages("/devices", views.Device, list(filters.items())))

    def channels(self, **filters: str) -> list[views.Channel]:
        """``filters``: site, gateway, application, device, channel, topic, label ("key:value")."""
        return list(self._http.pages("/channels", views.Channel, list(filters.items())))

    def topics(self, selection: Selection | str = "") -> list[TopicAddress]:
        """Topics and where they are; see `master.selection.parse_selection` for the text of a selection."""
        return topics(self._http, selection)

    def select(self, selection: Selection | str = "") -> Selected:
        """What a pipeline needs to read a selection: topics, brokers, schemas."""
        return select(self._http, self._catalogue, selection)

    def schema(self, fingerprint: str) -> EventSchema:
        """The event schema of a frame's fingerprint, hexadecimal as on the wire."""
        if len(fingerprint) != 16 or set(fingerprint) - set("0123456789abcdefABCDEF"):
            raise ConfigurationError(f"{fingerprint!r} is not a fingerprint", remedy="16 hexadecimal digits")
        return self._catalogue.fetch(fingerprint.lower())

    def device(self, name: str, *, gateway: str | None = None) -> Device:
        """One device; ``gateway`` says which when several have one of that name."""
        chosen = Selection(device=(name,), gateway=(gateway,) if gateway else ())
        found = list(self._http.pages("/devices", views.Device, chosen.parameters()))
        if len(found) == 1:
            return Device(self._http, self._catalogue, found[0])
        if found:
            names = ", ".join(sorted({one.gateway for one in found}))
            raise MasterRefused(f"several gateways have a device {name!r}: {names}", status=409, remedy="say which: gateway=…")
        known = [one.device for one in self._http.pages("/devices", views.Device, [("limit", "10000")])]
        raise MasterRefused(
            f"{self._http.url}: there is no device {name!r}",
            status=404,
            remedy=_nearest(name, known) or "a device appears with its first event; is its gateway online?",
        )

    def command(self, id: str) -> views.Command:  # noqa: A002
        """A command by its id, whoever has sent it."""
        return self._http.get(f"/commands/{quoted(id)}", views.Command)

    def watch(
        self, selection: Selection | str = "", *, kinds: Sequence[str] = (), after: int | None = None
    ) -> Iterator[changes.Change]:
        """Changes of the registry as they happen, without an end; see `master.client.changes.watch`."""
        chosen = parse_selection(selection) if isinstance(selection, str) else selection
        return changes.watch(self._http, chosen, kinds, after=after)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()


class Device:
    """A device. ``info`` is what the master knew of it when it was looked up."""

    def __init__(self, http: Http, catalogue: Catalogue, info: views.Device) -> None:
        self._http = http
        self._catalogue = catalogue
        self.info = info

    def subscribe(
        self,
        channel: str,
        *,
        start: Start = "now",
        timeout: float | None = None,
        unreadable: Callable[[Unreadable], None] | None = None,
    ) -> Subscription:
        """Its events on a channel, see `Subscription`. Raises `ConfigurationError` for a channel it does not have."""
        channels = {one.channel: one for one in self.info.channels}
        if channel not in channels:
            remedy = _nearest(channel, list(channels)) or "its channels: " + (", ".join(channels) or "none")
            raise ConfigurationError(f"device {self.info.device!r} has no channel {channel!r}", remedy=remedy)
        return Subscription(
            self._catalogue,
            channels[channel].broker,
            channels[channel].topic,
            device=self.info.device,
            channel=channel,
            start=start,
            timeout=timeout,
            unreadable=unreadable,
        )

    def command(self, name: str, /, *, deadline: float = 30.0, issuer: str = "", **args: Any) -> SentCommand:
        """Send a command; ``deadline`` (seconds from now) is when it is not begun any more.

        The id is made here, so that a request that is tried again is the same command. Arguments named like the
        settings of this method go through `order`.
        """
        return self.order(name, args, deadline=deadline, issuer=issuer)

    def order(self, name: str, args: dict[str, Any], *, deadline: float = 30.0, issuer: str = "") -> SentCommand:
        """`command` with its arguments as a dict."""
        request = {
            "device": self.info.device,
            "gateway": self.info.gateway,
            "name": name,
            "args": args,
            "deadline": deadline,
            "issuer": issuer,
            "id": uuid7(time.time_ns() // 1_000),
        }
        return SentCommand(self._http, self._http.post("/commands", views.Command, request))


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else ""
