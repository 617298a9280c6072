"""The replay driver on CSV: what becomes of every cell, good or bad."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from examples.demo.expected import readings
from tests.gateway_agent.drivers.context import KeepingContext
from tests.gateway_agent.drivers.kit import WSN, make, refusal

NUMBERED = """
file = "{file}"
speed = {speed}
device = "mote-{{mote_id}}"
time = {{ start = "2010-05-09T00:00:00Z", column = "reading", first = 1, step = "5s" }}
channels = {{ humidity = {{ value = "humidity" }}, temperature = {{ value = "temperature" }} }}
"""
TIMED = """
file = "{file}"
speed = 0
device = "{{d}}"
time = {{ column = "t", format = "{format}" }}
channels = {{ v = {{ value = "v" }} }}
"""


def played(toml: str) -> KeepingContext:
    context = KeepingContext()
    make("replay", toml).run(context)
    return context


def recording(tmp_path: Path, content: bytes | str) -> Path:
    file = tmp_path / "recording.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def values(context: KeepingContext) -> list[tuple[str, int, float]]:
    return [(device, int(time), fields["value"]) for device, _, time, fields in context.emitted]  # type: ignore[arg-type]


def test_the_recording_of_four_motes_comes_whole_and_in_the_order_of_time() -> None:
    """The file lists one mote after another; every reading comes once, at its time."""
    context = played(NUMBERED.format(file=WSN, speed=0))
    times = [int(time) for _, _, time, _ in context.emitted]  # type: ignore[arg-type]
    assert times == sorted(times)
    found = sorted((time, device, channel, fields["value"]) for device, channel, time, fields in context.emitted)
    expected = [(round(time.timestamp() * 1_000_000), *rest) for time, *rest in readings(WSN)]
    assert found == sorted(expected)
    assert context.rejected == []


@pytest.mark.parametrize("text", ["360", "0", "0.5"])
def test_speed_may_come_from_a_variable_and_so_be_text(text: str) -> None:
    assert make("replay", NUMBERED.format(file=WSN, speed=f'"{text}"')).settings.speed == float(text)


@pytest.mark.parametrize(
    ("form", "cell", "expected"),
    [
        ("iso", "2010-05-09T00:00:05Z", 1_273_363_205_000_000),
        ("iso", "2010-05-09 02:00:05.25+02:00", 1_273_363_205_250_000),
        ("iso", "2010-05-09T00:00:05", 1_273_363_205_000_000),
        ("iso", "1969-12-31T23:59:59Z", -1_000_000),
        ("iso", "9999-12-31T23:59:59Z", 253_402_300_799_000_000),
        ("seconds", "1273363205.1", 1_273_363_205_100_000),
        ("seconds", "-0.5", -500_000),
        ("milliseconds", "1273363205123", 1_273_363_205_123_000),
        ("microseconds", "1273363205123456", 1_273_363_205_123_456),
        ("nanoseconds", "1273363205123456789", 1_273_363_205_123_456),
        ("seconds", "1.273363205e9", 1_273_363_205_000_000),
    ],
)
def test_times_of_each_form_are_read_to_the_microsecond(tmp_path: Path, form: str, cell: str, expected: int) -> None:
    file = recording(tmp_path, f"t,d,v\n{cell},a,1\n")
    assert values(played(TIMED.format(file=file, format=form))) == [("a", expected, 1.0)]


@pytest.mark.parametrize("cell", ["", "yesterday", "nan", "inf", "1_000", "99999999999999999999", "2010-13-01"])
@pytest.mark.parametrize("form", ["iso", "seconds"])
def test_a_row_without_a_time_is_rejected_with_its_line(tmp_path: Path, form: str, cell: str) -> None:
    good = "0" if form == "seconds" else "1970-01-01"
    file = recording(tmp_path, f"t,d,v\n{good},a,1\n{cell},b,2\n{good},c,3\n")
    context = played(TIMED.format(file=file, format=form))
    assert [device for device, *_ in context.emitted] == ["a", "c"]
    assert [where for where, _ in context.rejected] == [f"{file}:3"]


@pytest.mark.parametrize("cell", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_zone_that_takes_a_time_out_of_the_calendar_costs_its_row(tmp_path: Path, cell: str) -> None:
    file = recording(tmp_path, f"t,d,v\n{cell},a,1\n2010-05-09,b,2\n")
    context = played(TIMED.format(file=file, format="iso"))
    assert [device for device, *_ in context.emitted] == ["b"]
    assert context.rejected == [(f"{file}:2", "a time outside the years 1 to 9999")]


def test_a_row_that_is_there_twice_comes_twice_and_blank_rows_not_at_all(tmp_path: Path) -> None:
    file = recording(tmp_path, "t,d,v\n\n2,b,2\n1,a,1\n \n1,a,1\n\n")
    context = played(TIMED.format(file=file, format="seconds"))
    assert values(context) == [("a", 1_000_000, 1.0), ("a", 1_000_000, 1.0), ("b", 2_000_000, 2.0)]
    assert context.rejected == []


@pytest.mark.parametrize("cell", ["9" * 32, "1e30", "-1e30", "1e1000000", "9" * 21 + ".9999999999", "9" * 5_000, "sNaN"])
@pytest.mark.parametrize("form", ["seconds", "milliseconds", "microseconds", "nanoseconds"])
def test_a_number_that_no_clock_counts_to_costs_its_row_not_the_driver(tmp_path: Path, form: str, cell: str) -> None:
    file = recording(tmp_path, f"t,d,v\n0,a,1\n{cell},b,2\n0,c,3\n")
    context = played(TIMED.format(file=file, format=form))
    assert [device for device, *_ in context.emitted] == ["a", "c"]
    ((where, reason),) = context.rejected
    assert where == f"{file}:3"
    assert len(reason) < 200


@pytest.mark.parametrize("cell", ["", " ", "wet", "nan", "-inf", "1e999", "1_0", "0x10"])
def test_a_bad_cell_costs_its_own_reading_only(tmp_path: Path, cell: str) -> None:
    file = recording(tmp_path, f"reading,mote_id,humidity,temperature\n1,1,{cell},20.5\n2,1,40,21\n")
    context = played(NUMBERED.format(file=file, speed=0))
    assert [(channel, fields["value"]) for _, channel, _, fields in context.emitted] == [
        ("temperature", 20.5),
        ("humidity", 40.0),
        ("temperature", 21.0),
    ]
    assert [where for where, _ in context.rejected] == [f"{file}:2"]
    assert "humidity" in context.rejected[0][1]


def test_a_row_that_was_cut_short_gives_what_it_has(tmp_path: Path) -> None:
    file = recording(tmp_path, "reading,mote_id,humidity,temperature\n1,1,40,20\n2,1,41")
    context = played(NUMBERED.format(file=file, speed=0))
    assert [fields["value"] for *_, fields in context.emitted] == [40, 20, 41]
    assert context.rejected == [(f"{file}:3", "temperature: column 'temperature': the row has no such cell")]


def test_a_row_with_more_cells_than_the_header_is_not_believed(tmp_path: Path) -> None:
    """A decimal comma moves every cell behind it. Delimiters at the end of a line move nothing."""
    rows = "1,1,45,93,20,5\n2,1,41,21,,\n3,1,42,22, \n4,1,43,23,,x\n"
    file = recording(tmp_path, "reading,mote_id,humidity,temperature\n" + rows)
    context = played(NUMBERED.format(file=file, speed=0))
    assert [fields["value"] for *_, fields in context.emitted] == [41, 21, 42, 22]
    assert context.rejected == [
        (f"{file}:2", "6 cells, the header names 4"),
        (f"{file}:5", "6 cells, the header names 4"),
    ]
    assert [value for *_, value in readings(file)] == [41, 21, 42, 22]


def test_a_row_that_names_no_device_is_rejected(tmp_path: Path) -> None:
    file = recording(tmp_path, "reading,mote_id,humidity,temperature\n1, ,40,20\n2,7,41,21\n")
    context = played(NUMBERED.format(file=file, speed=0))
    assert {device for device, *_ in context.emitted} == {"mote-7"}
    assert context.rejected == [(f"{file}:2", "the cell for its device is empty")]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbft,d,v\n1,a,1\n2,b,2\n",
        b"t,d,v\r\n1,a,1\r\n2,b,2\r\n",
        b"\xef\xbb\xbft,d,v\r\n\r\n1,a,1\r\n   \r\n2,b,2",
        b'"t","d","v"\n"1","a","1"\n2,b,2\n',
        b"v,t,x,d\n1,1,,a\n2,2,,b\n",
        b" t , d , v \n1,a, 1 \n2,b,2\n",
    ],
    ids=["byte order mark", "CRLF", "all of it", "quoted", "other order", "blanks"],
)
def test_files_of_other_systems_are_read(tmp_path: Path, content: bytes) -> None:
    context = played(TIMED.format(file=recording(tmp_path, content), format="seconds"))
    assert values(context) == [("a", 1_000_000, 1.0), ("b", 2_000_000, 2.0)]
    assert context.rejected == []


def test_quoted_cells_may_hold_delimiters_quotes_and_line_ends(tmp_path: Path) -> None:
    file = recording(tmp_path, 't,d,v\n1,"a ""x"", y\nz",1\n2,b,2\n')
    context = played(TIMED.format(file=file, format="seconds"))
    assert values(context) == [('a "x", y\nz', 1_000_000, 1.0), ("b", 2_000_000, 2.0)]


def test_a_quote_that_is_never_closed_costs_its_line_only(tmp_path: Path) -> None:
    rows = "".join(f"{n},b,{n}\n" for n in range(2, 300))
    file = recording(tmp_path, f't,d,v\n1,"a,1\n{rows}')
    context = played(TIMED.format(file=file, format="seconds"))
    assert [time for _, time, _ in values(context)] == [n * 1_000_000 for n in range(2, 300)]
    assert context.rejected == [(f"{file}:2", "a quote is not closed")]


def test_lines_are_counted_across_quoted_line_ends(tmp_path: Path) -> None:
    file = recording(tmp_path, 't,d,v\n1,"a\nb\nc",1\n2,b,x\n')
    assert [where for where, _ in played(TIMED.format(file=file, format="seconds")).rejected] == [f"{file}:5"]


def test_rows_of_damaged_text_and_endless_lines_are_rejected_alone(tmp_path: Path) -> None:
    endless = b"9," + b"x" * 1_000_000 + b",9"
    file = recording(tmp_path, b"t,d,v\n1,a,1\n2,\xff\xfe,2\n" + endless + b"\n3,\x00c,3\n4,d,4\n")
    context = played(TIMED.format(file=file, format="seconds"))
    assert [time for _, time, _ in values(context)] == [1_000_000, 3_000_000, 4_000_000]
    assert [where for where, _ in context.rejected] == [f"{file}:3", f"{file}:4"]


def test_a_file_of_nothing_but_its_header_ends_at_once(tmp_path: Path) -> None:
    context = played(TIMED.format(file=recording(tmp_path, "t,d,v\n"), format="seconds"))
    assert (context.emitted, context.rejected) == ([], [])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"\n\r\n", "is empty"),
        (b"\xff\xfet\x00", "UTF-16"),
        (b"time,d,v\n1,a,1\n", "time.column: the recording has no column 't'; it has: time, d, v"),
        (b"t,d,val\n1,a,1\n", "channels.v.value: the recording has no column 'v'; did you mean 'val'?"),
        (b"t,device,v\n", "device: the recording has no column 'd'"),
        (b"t;d;v\n1;a;1\n", 'is it separated by delimiter = ";"?'),
        (b"t\td\tv\n1\ta\t1\n", 'is it separated by delimiter = "\\t"?'),
        (b"t,d,v,v\n1,a,1,2\n", "channels.v.value: the recording has 2 columns 'v'"),
        (b"t,d,v\r1,a,1\r2,b,2\r", "its lines end with CR alone"),
        (b't,"d,v\n', "a quote is not closed"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_before_anything_runs(tmp_path: Path, content: bytes, problem: str) -> None:
    assert problem in refusal("replay", TIMED.format(file=recording(tmp_path, content), format="seconds"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("speed = 0", 'speed = "fast"'), "applications.it.settings.speed"),
        (("speed = 0", "speed = -1"), "speed: -1.0"),
        (("speed = 0", "sped = 0"), "applications.it.settings.sped: unknown field; did you mean 'speed'?"),
        (('format = "seconds"', 'format = "minutes"'), "applications.it.settings.time.format"),
        (('value = "v"', 'valu = "v"'), "channels.v.valu: iotcloud.Reading has no such field; did you mean 'value'?"),
        (('value = "v"', 'schema = "Position", latitude = "v"'), "no column for the field 'longitude'"),
        (('value = "v"', 'schema = "Blob", content_type = "d", value = "v"'), "cannot hold a bytes"),
        (('value = "v"', 'schema = "Redding", value = "v"'), "no shipped schema 'Redding'"),
        (('device = "{d}"', 'device = "{d"'), "device"),
        (('device = "{d}"', 'device = "{}"'), "device"),
        (('device = "{d}"', 'delimiter = ";;"\ndevice = "{d}"'), "delimiter"),
        (('device = "{d}"', ""), "the field 'device' is missing"),
        (('format = "seconds"', 'start = "2010-05-09T00:00:00Z"'), "'start' and 'step' belong together"),
    ],
)
def test_wrong_settings_are_refused_by_the_name_of_the_field(tmp_path: Path, change: tuple[str, str], problem: str) -> None:
    toml = TIMED.format(file=recording(tmp_path, "t,d,v\n"), format="seconds")
    assert change[0] in toml
    assert problem in refusal("replay", toml.replace(*change))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal("replay", TIMED.format(file=tmp_path / "none.csv", format="iso"))


def test_other_schemas_take_several_columns(tmp_path: Path) -> None:
    file = recording(tmp_path, "t;lat;lon;alt;n;f;on\n1;50.5;8.25;100;7;3;yes\n2;50.5;8.25;100;7.5;3;perhaps\n")
    context = played(f"""
    file = "{file}"
    speed = 0
    delimiter = ";"
    device = "car"
    time = {{ column = "t", format = "seconds" }}
    [channels]
    engine = {{ schema = "State", value = "on" }}
    [channels.position]
    schema = "Position"
    latitude = "lat"
    longitude = "lon"
    altitude = "alt"
    satellites = "n"
    fix = "f"
    """)
    assert context.emitted == [
        ("car", "engine", 1_000_000, {"value": True}),
        (
            "car",
            "position",
            1_000_000,
            {"latitude": 50.5, "longitude": 8.25, "altitude": 100.0, "satellites": 7, "fix": 3},
        ),
    ]
    assert [reason.partition(":")[0] for _, reason in context.rejected] == ["engine", "position"]


def test_json_lines_are_read_like_rows(tmp_path: Path) -> None:
    file = tmp_path / "recording.jsonl"
    file.write_text(
        '{"t": 1, "d": "a", "v": 1.5}\n\n{"t": "2", "d": 7, "v": "2.5"}\n[1]\n{"t": 3,\n{"d": "a", "v": 1}\n'
        '{"t": 4, "d": "a"}\n{"t": 5, "d": "a", "v": true}\n{"t": 6.25, "d": "a", "v": 6}'
    )
    toml = TIMED.format(file=file, format="seconds")
    context = played('format = "jsonl"\n' + toml)
    assert values(context) == [("a", 1_000_000, 1.5), ("7", 2_000_000, 2.5), ("a", 6_250_000, 6.0)]
    assert [where.rpartition(":")[2] for where, _ in context.rejected] == ["4", "5", "6", "7", "8"]


@pytest.mark.parametrize("depth", [10, 500, 900, 980, 60_000])
@pytest.mark.parametrize(
    "line", ["{}", '{{"t": {}, "d": "b", "v": 2}}', '{{"t": 2, "d": {}, "v": 2}}', '{{"t": 2, "d": "b", "v": {}}}']
)
def test_json_that_is_nested_however_deeply_costs_its_line_not_the_driver(tmp_path: Path, line: str, depth: int) -> None:
    file = tmp_path / "recording.jsonl"
    nested = "[" * depth + "]" * depth
    file.write_text(f'{{"t": 1, "d": "a", "v": 1}}\n{line.format(nested)}\n{{"t": 3, "d": "c", "v": 3}}\n')
    context = played('format = "jsonl"\n' + TIMED.format(file=file, format="seconds"))
    assert [device for device, *_ in context.emitted] == ["a", "c"]
    assert [where for where, _ in context.rejected] == [f"{file}:2"]


def test_an_event_too_large_for_the_broker_is_rejected_alone(tmp_path: Path) -> None:
    from schemas.errors import SchemaError

    class Small(KeepingContext):
        def emit_many(self, events):  # type: ignore[no-untyped-def]
            events = list(events)
            if any(len(event[0]) > 100 for event in events):
                raise SchemaError("too large")
            super().emit_many(events)

    file = recording(tmp_path, f"t,d,v\n1,a,1\n2,{'b' * 1000},2\n3,c,3\n")
    context = Small()
    make("replay", TIMED.format(file=file, format="seconds")).run(context)
    assert [device for device, *_ in context.emitted] == ["a", "c"]
    assert context.rejected == [(f"{file}:3", "too large")]


def test_times_told_as_toml_datetimes_are_read_too(tmp_path: Path) -> None:
    toml = NUMBERED.format(file=WSN, speed=0).replace('"2010-05-09T00:00:00Z"', "2010-05-09T00:00:00Z")
    assert make("replay", toml).settings.time.start == datetime(2010, 5, 9, tzinfo=UTC)
