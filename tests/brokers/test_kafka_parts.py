"""What of Kafka needs no server: record batches as kafka-python has them, what is sent again, URLs and certificates."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from brokers import BrokerRefused, PublishError, connect
from brokers.contract import Message, Record
from brokers.kafka.batches import Producer, decode_batches, encode_batch, offset_after
from brokers.kafka.encryption import Encryption
from brokers.kafka.identity import Identity
from brokers.kafka.lane import Lane
from brokers.kafka.options import KafkaOptions
from brokers.kafka.shelf import Shelf
from brokers.partitioning import partition_of
from gateway_agent.config import load_config
from schemas.errors import ConfigurationError
from tests.brokers.kit import ROOT
from tests.servers.certificates import certificates

NOW = 1_700_000_000_123
NOBODY = Producer(-1, -1, -1)
PAIRS = st.lists(st.tuples(st.text(max_size=100).map(str.encode), st.binary(max_size=300)), min_size=1, max_size=200)


def encoded(*values: bytes, base: int = 0) -> bytes:
    batch = bytearray(encode_batch([(b"key", value) for value in values], NOBODY, time=NOW, compression="none"))
    batch[:8] = base.to_bytes(8, "big")
    return bytes(batch)


@given(PAIRS, st.sampled_from(["none", "gzip"]))
def test_kafka_python_reads_what_we_write(pairs: list[tuple[bytes, bytes]], compression: str) -> None:
    batch = DefaultRecordBatch(encode_batch(pairs, Producer(7, 3, 11), time=NOW, compression=compression))
    assert batch.validate_crc()
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == (7, 3, 11)
    records = list(batch)
    assert [(record.key, record.value) for record in records] == pairs
    assert [record.offset for record in records] == list(range(len(pairs)))
    assert {record.timestamp for record in records} == {NOW}


@given(PAIRS, st.integers(0, 4), st.integers(-5_000, 5_000), st.integers(0, 250))
def test_we_read_what_kafka_python_writes(pairs: list[tuple[bytes, bytes]], codec: int, step: int, begin: int) -> None:
    builder = DefaultRecordBatchBuilder(2, codec if codec == 1 else 0, False, -1, -1, -1, 1 << 30)
    for number, (key, value) in enumerate(pairs):
        builder.append(number, NOW + number * step, key, value, [("header", b"x")] if number % 3 else [])
    (batch,) = decode_batches(bytes(builder.build()), begin)
    expected = [Record(at, 1_000 * (NOW + at * step), key.decode(), value) for at, (key, value) in enumerate(pairs)]
    assert batch.records == expected[begin:]
    assert batch.next == len(pairs)
    assert not batch.on_server_time


def test_large_records_and_many_of_them() -> None:
    pairs = [(b"k" * 10_000, bytes(700_000)), *((str(number).encode(), bytes(100)) for number in range(20_000))]
    (batch,) = decode_batches(encode_batch(pairs, NOBODY, time=NOW, compression="none"), 0)
    assert [(record.key.encode(), record.value) for record in batch.records] == pairs


def test_records_without_key_or_value_and_foreign_keys() -> None:
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1 << 20)
    for number, (key, value) in enumerate([(None, b"v"), (b"k", None), (b"\xff\xfe", b"")]):
        builder.append(number, NOW, key, value, [])
    (batch,) = decode_batches(bytes(builder.build()), 0)
    assert [(record.key, record.value) for record in batch.records] == [("", b"v"), ("k", b""), ("\\xff\\xfe", b"")]


def test_a_damaged_batch_is_one_empty_record_and_stops_nobody() -> None:
    damaged = bytearray(encoded(b"1", b"2", base=10))
    damaged[-3] ^= 1
    first, second = decode_batches(bytes(damaged) + encoded(b"3", base=12), 10)
    assert first.damaged
    assert [(record.offset, record.value) for record in first.records] == [(11, b"")]
    assert [(record.offset, record.value) for record in second.records] == [(12, b"3")]


def test_a_batch_that_is_cut_short_is_left_for_the_next_fetch() -> None:
    whole, cut = encoded(b"1", b"2", base=5), encoded(b"3", base=7)
    for length in range(len(cut)):
        assert [batch.next for batch in decode_batches(whole + cut[:length], 5)] == [7]
        assert offset_after(whole + cut[:length]) == 7
        assert offset_after(cut[:length]) is None


def test_a_shelf_gives_all_records_once_whatever_is_asked_for() -> None:
    shelf = Shelf(("topic", 0), 3)
    shelf.put(encoded(*(bytes([n]) for n in range(5)), base=0) + encoded(b"\5", b"\6", base=5), end=9, now=1.0)
    assert shelf.more
    shelf.put(encoded(b"\7", b"\x08", base=7), end=9, now=1.0)
    assert not shelf.more
    taken: list[Record] = []
    for max_records, max_bytes in ((1, 100), (10, 1), (2, 100), (10, 8), (10, 100), (10, 100)):
        taken += shelf.take(max_records, max_bytes)[0]
    assert [record.offset for record in taken] == list(range(3, 9))
    assert [record.value for record in taken] == [bytes([n]) for n in range(3, 9)]
    assert (shelf.next, shelf.held) == (9, 0)


def test_a_hole_at_the_end_is_passed_over() -> None:
    control = bytearray(encoded(b"commit", base=4))
    shelf = Shelf(("topic", 0), 4)
    attributes = int.from_bytes(control[21:23], "big") | 0x20
    control[21:23] = attributes.to_bytes(2, "big")
    control[17:21] = _checksum(control[21:]).to_bytes(4, "big")
    shelf.put(bytes(control), end=5, now=1.0)
    assert shelf.take(10, 100)[0] == []
    assert (shelf.next, shelf.fetch_from) == (4, 5)


def _checksum(data: bytearray) -> int:
    import google_crc32c

    return google_crc32c.value(bytes(data))


def test_a_lane_repeats_the_same_bytes_and_splits_what_is_too_large() -> None:
    identity = Identity(None)  # type: ignore[arg-type]  (asks nothing here)
    messages = [Message("t", "k", bytes(400)) for _ in range(5)]
    lane = Lane(("t", 0), messages, range(5), largest=1_000)
    assert lane.head == [0, 1]
    sent = lane.encoded(identity, time=NOW, compression="none")
    assert lane.encoded(identity, time=NOW + 1, compression="none") is sent
    lane.stored(identity)
    assert identity.stamp(("t", 0)).sequence == 2
    lane.split()
    assert lane.head == [2]
    assert lane.left() == [2, 3, 4]
    lane.drop()
    assert lane.left() == [3, 4]


def test_doubt_begins_a_new_epoch_with_new_numbers() -> None:
    identity = Identity(None)  # type: ignore[arg-type]  (asks nothing here)
    identity.stored(("t", 0), 5)
    before = identity.stamp(("t", 0))
    identity.renew()
    assert identity.stamp(("t", 0)) == before._replace(epoch=before.epoch + 1, sequence=0)


def test_keys_go_where_librdkafka_puts_them() -> None:
    # The check value of CRC-32.
    assert [partition_of("123456789", count) for count in (1, 7, 12)] == [0xCBF43926 % count for count in (1, 7, 12)]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("kafka://host?partition=3", "did you mean 'partitions'"),
        ("kafka://host?partitions=0", "partitions must be 1 to 1024"),
        ("kafka://host?replication=33", "replication must be 0 to 32"),
        ("kafka://host?max_message_bytes=1GB", "max_message_bytes must be 1 to 100MB"),
        ("kafka://host?mechanism=gssapi", "mechanism"),
        ("kafka://host?compression=lzma", "compression"),
        ("kafka://host?ca=/ca.pem", "begin the URL with kafkas://"),
        ("kafkas://host?cert=/cert.pem", "cert and key go together"),
        ("kafka://host/topic", "a path means nothing"),
        ("kafka://", "names no server"),
    ],
)
def test_a_wrong_url_is_refused_before_anything_is_opened(url: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect(url)
    assert problem in str(caught.value)


def test_a_compression_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kafka.codec.has_lz4", lambda: False)
    with pytest.raises(ConfigurationError, match="pip install lz4"):
        connect("kafka://host?compression=lz4")


@pytest.mark.parametrize("module", ["kafka", "google_crc32c"])
def test_a_missing_library_is_named_with_its_pip_install(module: str) -> None:
    code = (
        f"import sys; sys.modules['{module}'] = None\n"
        "from brokers import connect; from schemas.errors import ConfigurationError\n"
        "try: connect('kafka://host')\n"
        "except ConfigurationError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert module in done.stdout
    assert "pip install 'iotcloud[kafka]'" in done.stdout


def test_a_password_does_not_go_in_the_open_unless_that_is_asked_for() -> None:
    with pytest.raises(ConfigurationError, match="mechanism=plain shows the password") as caught:
        connect("kafka://gw-1:hunter2@host?mechanism=plain")
    assert "kafkas://" in caught.value.remedy
    assert "hunter2" not in str(caught.value) + caught.value.remedy
    for url in (
        "kafka://gw-1:x@host?mechanism=plain&plain_without_tls=true",
        "kafkas://gw-1:x@host?mechanism=plain",
        "kafka://gw-1:x@host",
        "kafka://host?mechanism=plain",
    ):
        connect(url)


def test_the_sample_is_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", "in-the-sample")
    (broker,) = load_config(ROOT / "brokers" / "kafka" / "sample.toml").brokers().values()
    assert broker.url.startswith("kafkas://gw-1:***@kafka1.example.com:9093,")


def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    broker = connect(f"kafkas://127.0.0.1:1?ca={tmp_path}/missing.pem")
    publisher, reader = broker.publisher(), broker.log_reader()
    with pytest.raises(PublishError, match=r"missing\.pem"):
        publisher.publish([Message("topic", "key", b"")], timeout=5)
    with pytest.raises(BrokerRefused, match=r"missing\.pem"):
        reader.partitions("topic")
    publisher.close()
    reader.close()


def test_certificates_that_were_renewed_are_read_again_and_torn_ones_left(tmp_path: Path) -> None:
    made = certificates(tmp_path)
    encryption = Encryption(KafkaOptions(ca=str(made.ca), cert=str(made.client_cert), key=str(made.client_key)))
    assert len(encryption.context.get_ca_certs()) == 1
    for seconds, content, known in (
        (1, made.stranger.read_bytes(), 2),
        (2, b"half a cert", 2),
        (3, made.stranger.read_bytes(), 2),
    ):
        made.ca.write_bytes(content)
        os.utime(made.ca, (seconds, seconds))
        encryption.renew()
        assert len(encryption.context.get_ca_certs()) == known
