"""The journal on two NameNodes: whichever is active is found, also when it changes or dies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from schemas.registry import Schemas
from storage import Journal, StoreUnavailable, open_journal
from tests.servers.hdfs.pair import HdfsPair
from tests.storage.frames import records
from tests.storage.journal_contract import TOPIC

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HdfsPair]:
    made = HdfsPair(tmp_path_factory.mktemp("pair"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


def append(journal: Journal, count: int) -> None:
    first = journal.next_offset(TOPIC, 0) or 0
    journal.append(TOPIC, 0, records("r" * count, first=first), first=first)


def test_the_active_namenode_is_found_when_it_changes_and_when_it_dies(pair: HdfsPair) -> None:
    journal = open_journal(pair.url("/pair", timeout="5s"), Schemas.with_shipped())
    append(journal, 3)
    pair.demote("one")
    with pytest.raises(StoreUnavailable):
        open_journal(pair.url("/pair", patience="1s"), Schemas.with_shipped()).next_offset(TOPIC, 0)
    pair.activate("two")
    append(journal, 3)
    pair.namenodes["two"].kill()
    pair.activate("one")
    append(journal, 3)
    assert [found.offset for found in journal.read(TOPIC, 0)] == list(range(9))
