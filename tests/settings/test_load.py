"""Configuration files: checked types, and errors that name file, line, field and the nearest valid name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import pytest

from schemas.errors import ConfigurationError
from settings import Bytes, Seconds, convert, line_of, lines_of, load, parse
from settings.quantities import Port


class Transport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str
    timeout: Seconds = Seconds(30)
    limit: Bytes | None = None
    port: Port = 0


class Channel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    grouping: Literal["grouped", "single"] = "grouped"
    tags: tuple[str, ...] = ()


class Gateway(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    site: str
    transports: dict[str, Transport] = {}
    channels: list[Channel] = []
    main: Transport | None = None

    def __post_init__(self) -> None:
        if self.site == "nowhere":
            raise ValueError("a gateway stands somewhere")


WHOLE = """\
site = "plant-1"

[transports.main]
url = "amqp://${HOST}:5672"
timeout = "1.5m"
limit = "4KiB"

[transports."with.dot"]
url = "local:log"

[[channels]]
name = "humidity"
tags = ["a", "b"]

[[channels]]
name = "temperature"
grouping = "single"
"""


def test_a_whole_file_becomes_typed_values(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(WHOLE)
    assert load(path, Gateway, environment={"HOST": "broker"}) == Gateway(
        site="plant-1",
        transports={
            "main": Transport("amqp://broker:5672", Seconds(90), Bytes(4096)),
            "with.dot": Transport("local:log"),
        },
        channels=[Channel("humidity", tags=("a", "b")), Channel("temperature", "single")],
    )


TWO_TRANSPORTS = 'site = "x"\n[transports.a]\nurl = "u"\n[transports.b]\nurl = "u"\n'
TWO_CHANNELS = 'site = "x"\n[[channels]]\nname = "a"\ngrouping = "single"\n[[channels]]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('stie = "x"', "1: stie: unknown field; did you mean 'site'?"),
        ('site = "x"\nzzz = 1', "2: zzz: unknown field; valid: channels, main, site, transports"),
        ("", " the field 'site' is missing"),
        ("site = 5", "1: site: "),
        ('site = "nowhere"', " a gateway stands somewhere"),
        ('site = "x"\n[main]\nurl = "u"\ntimeout = "soon"', "4: main.timeout: 'soon' is not a duration such as"),
        ('site = "x"\n[main]\ntimeout = 5', "2: main: the field 'url' is missing"),
        ('site = "x"\n[main]\nurl = "u"\nport = 70000', "4: main.port: "),
        (TWO_TRANSPORTS + "limt = 5", "6: transports.b.limt: unknown field; did you mean 'limit'?"),
        ('site = "x"\n[transports]\na.url = "u"\na.limit = "many"', "4: transports.a.limit: 'many' is not a size such as"),
        ('site = "x"\n[transports."a.b"]\nulr = "u"', "3: transports.a.b.ulr: unknown field; did you mean 'url'?"),
        ('site = "x"\ntransports = 5', "2: transports: "),
        ('site = "x"\nmain = {url = "u", prot = 5}', "2: main.prot: unknown field; did you mean 'port'?"),
        (TWO_CHANNELS + 'name = "b"\ngrouping = "solo"', "7: channels[1].grouping: "),
        (TWO_CHANNELS + 'name = "b"\ngruping = "single"', "7: channels[1].gruping: unknown field; did you mean 'grouping'?"),
        (TWO_CHANNELS + "tags = []", "5: channels[1]: the field 'name' is missing"),
        (TWO_CHANNELS + 'name = "b"\ntags = ["x", 5]', "7: channels[1].tags[1]: "),
        (TWO_CHANNELS + 'name = "b"\n[main]\nulr = "u"', "8: main.ulr: unknown field; did you mean 'url'?"),
        ('site = "x"\nchannels = [5]', "2: channels[0]: expected a table"),
        ("site = ", " not TOML: "),
        ('site = "${ABSENT}"', "1: site: the variable ABSENT is not set"),
        (TWO_CHANNELS + 'name = "${ABSENT}"', "6: channels[1].name: the variable ABSENT is not set"),
    ],
)
def test_what_does_not_fit_is_refused_with_file_line_and_field(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, Gateway, origin="gateway.toml", environment={})
    assert caught.value.message.removeprefix("gateway.toml")[1:].startswith(message)


def test_comments_and_texts_that_look_like_keys_do_not_mislead_the_line() -> None:
    text = '# site = 1\nsite = """\nurl = 5\n[main]\n"""\n[main]  # here\nurl = "u"\nport = "x"'
    with pytest.raises(ConfigurationError, match=r"gateway\.toml:8: main\.port"):
        parse(text, Gateway, origin="gateway.toml", environment={})


def test_tables_within_arrays_of_tables_are_told_apart() -> None:
    text = "[[a]]\nx = 1\n[a.b]\ny = 1\n[[a.c]]\nz = 1\n[[a]]\nx = 1\n[a.b]\ny = 1\n[[a.c]]\nz = 1\n[[a.c]]\nz = 2"
    lines = lines_of(text)
    assert [lines["a", f"[{n}]", "x"] for n in (0, 1)] == [2, 8]
    assert [lines["a", f"[{n}]", "b", "y"] for n in (0, 1)] == [4, 10]
    assert [lines["a", f"[{n}]", "c", f"[{m}]", "z"] for n, m in ((0, 0), (1, 0), (1, 1))] == [6, 12, 14]
    assert line_of(("a", "[1]", "absent", "deeper"), lines) == 7


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.toml: cannot be read"):
        load(tmp_path / "absent.toml", Gateway)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"binary\.toml: cannot be read"):
        load(tmp_path / "binary.toml", Gateway)


def test_a_table_checked_later_is_named_by_where_it_stands() -> None:
    with pytest.raises(ConfigurationError, match=r"^x\.toml:7: transports\.main\.ulr: unknown field"):
        convert({"ulr": "u"}, Transport, origin="x.toml", at=("transports", "main"), lines={("transports", "main", "ulr"): 7})
