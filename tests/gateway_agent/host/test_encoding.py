"""The child's quick encoding is the reference's, and what does not fit is refused with its name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_agent.host.encoding import event_encoder, microseconds
from schemas.errors import SchemaError
from schemas.frame import encode_tail
from schemas.header import HEADER, MAX_NAME_BYTES
from schemas.registry import EventSchema, event_schema, shipped

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(1 << 31), (1 << 31) - 1),
    "long": st.integers(-(1 << 63), (1 << 63) - 1),
    "double": st.floats(allow_nan=False) | st.integers(-1000, 1000),
    "float": st.floats(width=32, allow_nan=False),
    "boolean": st.booleans(),
    "string": st.text(),
    "bytes": st.binary(),
}
WRONG: dict[str, list[Any]] = {
    "int": [1 << 31, 1.5, "1", None, True],
    "long": [1 << 63, 1.5, "1", None, True],
    "double": ["1", None, True, b"1"],
    "float": ["1", None, True],
    "boolean": [1, "true", None],
    "string": [b"x", 1, None, "\ud800"],
    "bytes": ["x", 1, None],
}


def schema_of(types: list[Any]) -> EventSchema:
    header = [{"name": name, "type": kind} for name, kind in HEADER]
    fields = [{"name": f"f{number}", "type": kind} for number, kind in enumerate(types)]
    return event_schema({"type": "record", "name": "T", "fields": header + fields})


@given(data=st.data(), types=st.lists(st.sampled_from(sorted(VALUES)), max_size=6))
def test_flat_events_are_encoded_as_the_reference_does(data: st.DataObject, types: list[str]) -> None:
    schema = schema_of(types)
    encode = event_encoder(schema, "channel")
    fields = {f"f{number}": data.draw(VALUES[kind]) for number, kind in enumerate(types)}
    time = data.draw(st.integers(-(1 << 63), (1 << 63) - 1))
    device = data.draw(st.text(min_size=1))
    if any(0xD800 <= ord(letter) < 0xE000 for letter in device):
        return
    reference = encode_tail(schema, {"device": device, "channel": "channel", "event_time": time, **fields})
    assert encode(device, time, fields) == reference


@given(
    value=st.none() | st.floats(allow_nan=False),
    items=st.lists(st.integers(-5, 5)),
    by_name=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)
def test_events_of_nested_schemas_are_encoded_as_the_reference_does(value: Any, items: Any, by_name: Any) -> None:
    schema = schema_of([["null", "double"], {"type": "array", "items": "int"}, {"type": "map", "values": "string"}])
    fields = {"f0": value, "f1": items, "f2": by_name}
    reference = encode_tail(schema, {"device": "d", "channel": "c", "event_time": 7, **fields})
    assert event_encoder(schema, "c")("d", 7, fields) == reference


@pytest.mark.parametrize("kind", sorted(WRONG))
def test_a_value_that_does_not_fit_is_refused_with_its_name(kind: str) -> None:
    encode = event_encoder(schema_of([kind]), "channel")
    for wrong in WRONG[kind]:
        with pytest.raises(SchemaError, match=rf"channel 'channel': f0 = .* is no {kind}"):
            encode("d", 1, {"f0": wrong})


def test_fields_that_are_missing_or_unknown_are_named() -> None:
    encode = event_encoder(shipped("Position"), "position")
    with pytest.raises(SchemaError, match="lacks altitude, fix, satellites"):
        encode("d", 1, {"latitude": 1.0, "longitude": 2.0})
    whole = {"latitude": 1.0, "longitude": 2.0, "altitude": 3.0, "satellites": 4, "fix": 3}
    with pytest.raises(SchemaError, match="unknown fields: hight") as refused:
        encode("d", 1, {**whole, "hight": 1})
    assert "its fields are: latitude, longitude" in refused.value.remedy


def test_a_field_with_a_default_may_be_left_out() -> None:
    header = [{"name": name, "type": kind} for name, kind in HEADER]
    fields = [{"name": "value", "type": "double"}, {"name": "unit", "type": "string", "default": "K"}]
    schema = event_schema({"type": "record", "name": "T", "fields": header + fields})
    encode = event_encoder(schema, "c")
    assert encode("d", 1, {"value": 1.0}) == encode("d", 1, {"value": 1.0, "unit": "K"})


@pytest.mark.parametrize(
    ("device", "problem"),
    [*((name, "no name of a device") for name in ("", None, 7, ["d"], "d\udc80")), ("d" * (MAX_NAME_BYTES + 1), "256 bytes")],
)
def test_a_device_has_a_name_that_can_be_stored(device: Any, problem: str) -> None:
    with pytest.raises(SchemaError, match=problem):
        event_encoder(shipped("Reading"), "c")(device, 1, {"value": 1.0})
    header = [dict(field) for field in shipped("Reading").record["fields"][:7]]
    optional = [{"name": "unit", "type": ["null", "string"], "default": None}]
    nested = event_encoder(event_schema({"type": "record", "name": "T", "fields": header + optional}), "c")
    with pytest.raises(SchemaError, match=problem):
        nested(device, 1, {"unit": None})
    with pytest.raises(SchemaError, match=problem):
        nested(device, 1, {})


#: In these years wherever in the world.
_IN_ANY_ZONE = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))  # noqa: DTZ001


@given(time=_IN_ANY_ZONE, hours=st.integers(-12, 12))
def test_times_of_any_zone_become_microseconds(time: datetime, hours: int) -> None:
    aware = time.replace(tzinfo=timezone(timedelta(hours=hours)))
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds(aware)) == aware


@pytest.mark.parametrize(
    "time",
    [
        datetime(2020, 1, 1),  # noqa: DTZ001
        datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
        "2020-01-01",
        1.5,
        True,
        1 << 58,
        -(1 << 63),
    ],
)
def test_what_is_no_time_is_refused(time: Any) -> None:
    with pytest.raises(SchemaError, match="event_time"):
        microseconds(time)
