"""A broker's address that a gateway registers is shown to everybody, so it must hold no secret."""

from __future__ import annotations

import msgspec
import pytest

from master.errors import Refused
from master.registration import check
from schemas.rpc import Transport
from tests.master.gateways import registration


def _check(url: str) -> None:
    check(msgspec.structs.replace(registration("g", "local:x"), transports=(Transport("main", url),)))


@pytest.mark.parametrize(
    "url",
    [
        "local:events",
        "mqtt://gw:${PASSWORD}@host:1883",
        "${URL}",
        "${URL:?of the broker}",
        "${URL:-local:events}",
        "${SCHEME}:events",
        "${SCHEME}://gw:${PASSWORD}@${HOST}",
        "${URL}:1883",
        "${URL}/site?qos=1",
    ],
)
def test_a_url_may_be_made_of_variables(url: str) -> None:
    _check(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mqtt://gw:literal@host", "mqtt://gw:***@host"),
        ("${S}://gw:literal@host", "${S}://gw:***@host"),
        ("${S}://gw:${P}literal@host", "${S}://gw:***@host"),
        ("${URL}:literal@host", "${URL}:***@host"),
        ("${URL}?password=literal", "${URL}?password=***"),
        ("${URL:-mqtt://gw:literal@host}", "mqtt://gw:***@host"),
        ("mqtt://gw:${PASSWORD:-literal}@host", "mqtt://gw:***@host"),
        ("${URL:?literal}://gw:literal@host", "${URL:?literal}://gw:***@host"),
    ],
)
def test_a_password_that_is_written_out_is_refused_and_not_shown(url: str, shown: str) -> None:
    with pytest.raises(Refused) as refused:
        _check(url)
    assert refused.value.message == f"transport main: {shown} holds a secret"


@pytest.mark.parametrize("url", ["", "nonsense", "${URL:-nonsense}"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(Refused, match="not a broker URL"):
        _check(url)
