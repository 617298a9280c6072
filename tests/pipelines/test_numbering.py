"""A topic that several brokers have: its partitions have one number each, for good."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from brokers import Message, connect
from brokers.contract import require_log
from pipelines.sources.numbering import SPAN, Origins, numbered_from


def test_a_topic_is_numbered_through_its_brokers_in_the_order_they_became_known(tmp_path: Path) -> None:
    first = Origins(tmp_path)
    assert first.bases("local:a", ("t", "u")) == {0: ("t", "u")}
    assert first.bases("kafka://b:9092", ("t", "v")) == {SPAN: ("t",), 0: ("v",)}
    first.store()
    again = Origins(tmp_path)
    assert again.bases("kafka://b:9092?password=x", ("t",)) == {SPAN: ("t",)}
    assert again.bases("local:c", ("t",)) == {2 * SPAN: ("t",)}
    assert again.bases("local:a", ("t", "u")) == {0: ("t", "u")}


def test_a_reader_answers_by_the_numbers_of_the_job(tmp_path: Path) -> None:
    broker = connect(f"local:{tmp_path}/log?partitions=2")
    with closing(broker.publisher()) as publisher:
        publisher.publish([Message("t", f"key-{number}", b"value") for number in range(20)])
    with closing(numbered_from(SPAN, require_log(broker))) as reader:
        assert list(reader.partitions("t")) == [SPAN, SPAN + 1]
        found = {
            partition: len(reader.read("t", partition, reader.begin_offset("t", partition), max_records=100, max_bytes=1 << 20))
            for partition in reader.partitions("t")
        }
        assert sum(found.values()) == 20
        assert all(reader.end_offset("t", partition) == count for partition, count in found.items())
