"""One connection to a server, served by a thread of its own from its first packet to its last.

A connection is never made again: whoever needs another one makes a new `Connection`, with a new client of the
library, so that nothing which was given to an old one is sent later behind its caller's back.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from brokers.mqtt.failures import CLOSED, CUT, SILENT, Failure, bad_certificates, dropped, not_subscribed, refused, unreachable
from brokers.mqtt.options import Target
from brokers.mqtt.stream import Stream

#: What no one subscribes to: leaving it changes nothing, and has an answer.
_NOWHERE: Final = "iotcloud/nothing"
#: Seconds that a closed connection has for saying goodbye.
_GOODBYE: Final = 0.5
#: Looks at the keep-alive in its time.
_LOOKS: Final = 4
#: Seconds between them when the server wants no keep-alive.
_SELDOM: Final = 60
_MOST: Final = 0xFFFF


class _Client(Client):
    def _create_socket(self) -> Stream:
        connected = super()._create_socket()
        assert isinstance(connected, socket.socket)
        return Stream(connected)


class Connection:
    """Connects at once, in its own thread; `open` and `failure` say how it is, and ``changed`` is called when that changes.

    ``session``: seconds that the session lives on without a connection; 0 for a connection that leaves none.
    ``on_message``, ``on_published`` when `published` has grown, and ``full``, whether nothing more is to be read until
    `go_on`, are called in the connection's thread and must not wait. All methods may be called from any thread, but not in
    these calls.
    """

    def __init__(
        self,
        target: Target,
        client_id: str,
        *,
        changed: Callable[[], None],
        session: float = 0,
        on_message: Callable[[MQTTMessage], None] | None = None,
        on_published: Callable[[], None] | None = None,
        full: Callable[[], bool] = lambda: False,
    ) -> None:
        self._target = target
        self._session = session
        self._tell = changed
        self._on_message = on_message
        self._on_published = on_published
        self._full = full
        self._state = threading.Condition()
        self._closing = threading.Event()
        self._asked = self._answered = 0
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._button.setblocking(False)
        self._client = self._make_client(client_id)
        #: Whether the server has accepted it. Stays true when it is lost: see `failure`.
        self.open = False
        self.failure: Failure | None = None
        #: Packet ids of messages that were answered, with reason codes, for the publisher to take away.
        self.published: deque[tuple[int, int]] = deque()
        self._came = False
        #: Whether the server had kept the session.
        self.resumed = False
        #: What the server takes: messages at once, and bytes of a packet (None: no limit but MQTT's).
        self.receive_maximum = _MOST
        self.maximum_packet_size: int | None = None
        threading.Thread(target=self._run, name=f"mqtt-{client_id}", daemon=True).start()

    @property
    def usable(self) -> bool:
        return self.open and self.failure is None

    def wait_open(self, deadline: float) -> Failure | None:
        """Wait until it is open, at most to ``deadline`` (`time.monotonic`); why it is not."""
        with self._state:
            self._state.wait_for(lambda: self.open or self.failure, timeout=max(0.0, deadline - time.monotonic()))
            return self.failure or (None if self.open else SILENT)

    def publish(self, topic: str, value: bytes, properties: Properties | None) -> int | None:
        """Hand over a message; its packet id, or None when the connection is lost."""
        info = self._client.publish(topic, value, qos=1, properties=properties)
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def acknowledge(self, packet_id: int) -> None:
        """Send a PUBACK, which has no answer: see `ask`."""
        self._client.ack(packet_id, 1)

    def go_on(self) -> None:
        """Read again, as there is room."""
        self._ring()

    def subscribe(self, topic: str) -> int:
        """Ask for the messages of ``topic`` from now on, without a retained one. Returns the number that `answered` counts to."""
        return self._ask(lambda: self._client.subscribe(topic, options=SubscribeOptions(qos=1, retainHandling=2))[0])

    def ask(self) -> int:
        """Send a request that changes nothing, to learn from its answer that the server has had all before it.

        Returns the number that `wait_answered` wants.
        """
        return self._ask(lambda: self._client.unsubscribe(_NOWHERE)[0])

    def ask_to_write(self) -> int:
        """Send as many requests as make a server write that writes after so many changes. See `ask`."""
        return [self.ask() for _ in range(self._target.options.writes_every)][-1]

    def wait_written(self, deadline: float) -> Failure | None:
        """Wait until all before this is on the server's disk, at most to ``deadline`` (`time.monotonic`); why it is not.

        mosquitto answers before it writes, and reads the next request when it has written.
        """
        return self.wait_answered(self.ask_to_write(), deadline) or self.wait_answered(self.ask(), deadline)

    def answered(self, number: int) -> bool:
        return self._answered >= number

    def wait_answered(self, number: int, deadline: float) -> Failure | None:
        """Wait until a request is answered, at most to ``deadline`` (`time.monotonic`); why it is not."""
        with self._state:
            self._state.wait_for(lambda: self._answered >= number or self.failure, timeout=max(0.0, deadline - time.monotonic()))
            return None if self._answered >= number else self.failure or SILENT

    def close(self, failure: Failure = CLOSED) -> None:
        """End it, without waiting until it has ended."""
        self._fail(failure)
        self._closing.set()
        self._ring()

    def _ask(self, send: Callable[[], MQTTErrorCode]) -> int:
        with self._state:
            self._asked += 1
            number = self._asked
        if send() != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._fail(CUT)
        return number

    def _make_client(self, client_id: str) -> Client:
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.max_inflight_messages = 0  # the publisher counts them itself
        client.connect_timeout = self._target.options.connect_timeout
        if self._target.user:
            client.username_pw_set(self._target.user, self._target.password or None)
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_publish = self._published
        client.on_message = self._arrived
        client.on_subscribe = self._subscribed
        client.on_unsubscribe = lambda *_: self._answer()
        # With this the library never writes to the socket in the thread of a caller.
        client.on_socket_register_write = lambda *_: self._ring()
        return client

    def _run(self) -> None:
        try:
            try:
                self._connect()
            except (OSError, ValueError) as error:
                self._fail(unreachable(error, self._target))
            self._serve()
            self._fail(CUT)
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits for the connection must be told
            self._fail(Failure(f"the client library failed: {error!r}", "another version of paho-mqtt may help"))
        finally:
            if (sock := self._client.socket()) is not None:
                sock.close()
            self._bell.close()
            self._button.close()

    def _connect(self) -> None:
        options = self._target.options
        if self._target.tls:
            try:
                context = ssl.create_default_context(cafile=options.ca or None)
                if options.cert:
                    context.load_cert_chain(options.cert, options.key or None)
            except (OSError, ValueError) as error:
                self._fail(bad_certificates(error, self._target))
                return
            self._client.tls_set_context(context)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = round(self._session)
        properties.ReceiveMaximum = options.window
        for number, (name, port) in enumerate(self._target.hosts, start=1):
            try:
                self._client.connect(
                    name, port, keepalive=round(options.keepalive), clean_start=not self._session, properties=properties
                )
                return
            except OSError:
                if number == len(self._target.hosts) or self._closing.is_set():
                    raise

    def _serve(self) -> None:
        """Move packets until the connection is lost, or closed and everything is sent."""
        client, ready = self._client, select.poll()
        ready.register(self._bell, select.POLLIN)
        look_at = until = 0.0
        while isinstance(stream := client.socket(), Stream):
            pause = (client.keepalive or _SELDOM) / _LOOKS  # the server may have asked for another keep-alive than ours
            if self._closing.is_set() and not until:
                until = time.monotonic() + _GOODBYE
                client.disconnect()
            if until and time.monotonic() > until:
                return
            full = self._full()
            came = self._wait(ready, stream, min(pause, _GOODBYE) if until else pause, full=full)
            if came and full:
                return  # it is broken: what was not read comes again
            self._read(stream, came=came)
            if client.want_write():
                with stream.together():
                    client.loop_write()
            if time.monotonic() >= look_at:
                if full:
                    # The library would end it, as it reads no answer to its own sign of life.
                    self.ask()
                else:
                    client.loop_misc()
                look_at = time.monotonic() + pause

    def _wait(self, ready: select.poll, stream: Stream, seconds: float, *, full: bool) -> bool:
        """Until there is something to do. Returns whether something has come; when ``full``, only what ends it is looked for."""
        ready.register(stream, (0 if full else select.POLLIN) | (select.POLLOUT if self._client.want_write() else 0))
        if not full:
            stream.confirm()
            seconds = 0 if stream.pending() else seconds
        events = dict(ready.poll(seconds * 1_000))
        if self._bell.fileno() in events:
            with contextlib.suppress(BlockingIOError):
                self._bell.recv(4_096)
        return bool(events.get(stream.fileno(), 0) & ~select.POLLOUT)

    def _read(self, stream: Stream, *, came: bool) -> None:
        """Take in what has come and there is room for, and tell of it once."""
        while (came or stream.pending()) and self._client.socket() is not None and not self._full():
            self._client.loop_read()
            came = False
        if self._came:
            self._came = False
            self._tell()

    def _ring(self) -> None:
        """Wake the thread up."""
        with contextlib.suppress(OSError):
            self._button.send(b"\0")

    def _fail(self, failure: Failure) -> None:
        with self._state:
            if self.failure is None:
                self.failure = failure
            self._state.notify_all()
        self._tell()

    def _answer(self) -> None:
        with self._state:
            self._answered += 1
            self._state.notify_all()
        self._tell()

    def _connected(
        self, _client: Client, _data: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._fail(refused(reason.value, str(reason)))
            return
        if getattr(properties, "MaximumQoS", 2) < 1:
            self._fail(not_subscribed(0, ""))
            return
        self.receive_maximum = getattr(properties, "ReceiveMaximum", _MOST)
        self.maximum_packet_size = getattr(properties, "MaximumPacketSize", None)
        self.resumed = flags.session_present
        with self._state:
            self.open = True
            self._state.notify_all()
        self._tell()

    def _disconnected(
        self, _client: Client, _data: Any, _flags: DisconnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self._fail(dropped(reason.value, str(reason), answered=self.open, target=self._target))

    def _published(self, _client: Client, _data: Any, packet_id: int, reason: ReasonCode, _properties: Properties) -> None:
        if self._on_published is not None:
            self.published.append((packet_id, reason.value))
            self._on_published()

    def _arrived(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        if self._on_message is not None:
            self._came = True
            self._on_message(message)

    def _subscribed(
        self, _client: Client, _data: Any, _packet_id: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        if reasons[0].value != 1:
            self._fail(not_subscribed(reasons[0].value, str(reasons[0])))
        self._answer()
