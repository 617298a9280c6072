"""The journal on the local disk: the contract, what foreign readers see, and what happens when it goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import fastavro
import polars as pl
import pytest

from schemas.errors import ConfigurationError
from schemas.fingerprint import MAGIC
from schemas.frame import decode_frame
from schemas.registry import Schemas
from schemas.varint import encode_long
from storage import Journal, StoreRefused, StoreUnavailable, open_journal
from storage.contract import Extent
from storage.errors import Overtaken
from storage.files.frames import FrameSorter
from storage.files.journal import FilesJournal
from storage.files.local import LocalDisk
from tests.storage.frames import HOUR, READING, records
from tests.storage.journal_contract import TOPIC, JournalContract

ROOT = Path(__file__).parent.parent.parent


class TestFiles(JournalContract):
    @pytest.fixture(params=["null", "deflate", "zstandard"])
    def url(self, tmp_path: Path, request: pytest.FixtureRequest) -> str:
        return f"files:{tmp_path}/archive?codec={request.param}&block_bytes=2kB"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def journal_at(root: Path, options: str = "") -> Journal:
    return open_journal(f"files:{root}{options}", Schemas.with_shipped())


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_names_say_topic_partition_hour_and_offsets(root: Path) -> None:
    journal_at(root).append(TOPIC, 2, records("rc", first=5, time=26 * HOUR), first=5)
    assert [str(path.relative_to(root)) for path in files(root)] == [
        f"journal/topic={TOPIC}/partition=2/1970-01-02/02/{5:020d}/{5:020d}-{7:020d}.EpochStart.{_fingerprint('EpochStart')}.avro",
        f"journal/topic={TOPIC}/partition=2/1970-01-02/02/{5:020d}/{5:020d}-{7:020d}.Reading.{READING.fingerprint.hex()}.avro",
    ]


def _fingerprint(name: str) -> str:
    from schemas.control import control_fingerprints

    return next(found.hex() for found, control in control_fingerprints().items() if control == name)


@pytest.mark.parametrize("codec", ["null", "deflate", "zstandard"])
def test_foreign_readers_see_ordinary_avro_with_the_events(root: Path, codec: str) -> None:
    sent = records("rrcrs")
    journal_at(root, f"?codec={codec}").append(TOPIC, 0, sent, first=0)
    (path,) = root.rglob("*.Reading.*.avro")
    expected = [event for place in (0, 1, 3) for event in decode_frame(sent[place][3], Schemas.with_shipped()).events]
    with path.open("rb") as file:
        reader = fastavro.reader(file)
        assert list(reader) == expected
        assert reader.metadata["iotcloud.events"] == str(len(expected))
        assert reader.metadata["iotcloud.first"] == "0"
        assert reader.metadata["iotcloud.next"] == "5"
        assert reader.metadata["iotcloud.max_append_time"] == "3000"
    if codec != "zstandard":  # which polars does not read
        assert pl.read_avro(path).get_column("value").to_list() == [event["value"] for event in expected]


def test_what_is_no_frame_is_kept_with_its_reason(root: Path) -> None:
    sent = records("rxu")
    journal_at(root).append(TOPIC, 0, sent, first=0)
    (path,) = root.rglob("*.dead-letters.avro")
    with path.open("rb") as file:
        letters = list(fastavro.reader(file))
    assert [(letter["offset"], letter["frame"]) for letter in letters] == [(1, sent[1][3]), (2, sent[2][3])]
    assert "Reading" in letters[0]["reason"]
    assert "unknown schema fingerprint" in letters[1]["reason"]


def test_legal_foreign_frames_are_events_and_not_dead_letters(root: Path) -> None:
    """An array in two blocks, the first with its size in bytes."""
    plain = decode_frame(records("r", first=4)[0][3], Schemas.with_shipped()).events
    parts = [items for _, _, items in _items(plain)]
    foreign = b"".join(
        (
            *(MAGIC, READING.fingerprint),
            *(encode_long(-2), encode_long(len(parts[0] + parts[1])), parts[0], parts[1]),
            *(encode_long(len(parts) - 2), *parts[2:], b"\0"),
        )
    )
    assert decode_frame(foreign, Schemas.with_shipped()).events == plain
    journal = journal_at(root)
    journal.append(TOPIC, 0, [(0, 0, "g", foreign)], first=0)
    (back,) = journal.read(TOPIC, 0)
    assert decode_frame(back.value, Schemas.with_shipped()).events == plain
    assert not list(root.rglob("*.dead-letters.avro"))


def _items(plain: list[dict[str, object]]) -> list[tuple[int, int, bytes]]:
    from schemas.frame import encode_frame

    return [(place, 1, encode_frame(READING, [event])[11:-1]) for place, event in enumerate(plain)]


def test_the_native_and_the_plain_sorter_agree() -> None:
    frames = [value for *_, value in records("rsxcurd" * 5)]
    native, plain = (FrameSorter(Schemas.with_shipped(), native=of).sort(frames) for of in (True, False))
    assert native.kinds == plain.kinds
    assert native.dead == plain.dead


def test_a_schema_that_becomes_known_is_decoded_from_then_on(root: Path) -> None:
    from tests.storage.frames import UNKNOWN

    schemas = Schemas.with_shipped()
    journal = open_journal(f"files:{root}", schemas)
    journal.append(TOPIC, 0, records("u"), first=0)
    schemas.add(UNKNOWN)
    journal.append(TOPIC, 0, records("u", first=1), first=1)
    assert len(list(root.rglob("*.dead-letters.avro"))) == len(list(root.rglob("*.Unknown.*.avro"))) == 1


@pytest.mark.parametrize("url", ["files:", "files:x?codec=snappy", "files:x?codec=deflate&level=11", "files:x?colour=red"])
def test_wrong_options_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        open_journal(url, Schemas.with_shipped())


@pytest.mark.parametrize("damage", ["flip", "cut", "index"])
def test_a_damaged_file_is_refused_and_named(root: Path, damage: str) -> None:
    journal = journal_at(root, "?codec=deflate")
    journal.append(TOPIC, 0, records("r" * 50), first=0)
    (path,) = root.rglob("*.avro")
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-60] ^= 0xFF
    elif damage == "index":
        place = data.index(b"iotcloud.frames") + 40
        data[place] ^= 0x15
    path.write_bytes(data[: len(data) - 30] if damage == "cut" else data)
    with pytest.raises(StoreRefused, match=path.name):
        list(journal.read(TOPIC, 0))


def test_a_root_that_is_no_folder_is_told_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    journal = journal_at(tmp_path / "file")
    with pytest.raises(StoreUnavailable):
        journal.check()
    with pytest.raises(StoreUnavailable):
        journal.append(TOPIC, 0, records("r"), first=0)


FULL = """
import resource, sys
from schemas.registry import Schemas
from storage import StoreFull, open_journal
from tests.storage.frames import records
journal = open_journal(sys.argv[1], Schemas.with_shipped())
journal.append("t", 0, records("r"), first=0)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    journal.append("t", 0, records("r" * 500, first=1), first=1)
except StoreFull as error:
    print("full:", error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert journal.append("t", 0, records("r" * 500, first=1), first=1) == 501
print("again")
"""


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, f"files:{root}?codec=null"], capture_output=True, text=True, timeout=60, cwd=ROOT, check=True
    )
    first, last = done.stdout.splitlines()
    assert first.startswith("full:")
    assert "free space" in first
    assert last == "again"
    assert [extent.next for extent in journal_at(root).extents("t", 0)] == [1, 501]
    assert not list((root / ".staging").iterdir())


KILLED = """
import sys
from schemas.registry import Schemas
from storage import open_journal
from tests.storage.frames import records
journal = open_journal(sys.argv[1], Schemas.with_shipped())
position = journal.next_offset("t", 0) or 0
while True:
    position = journal.append("t", 0, records("rcx" * 20, first=position), first=position)
    print(position, flush=True)
"""


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_whole_appends_and_the_next_goes_on(root: Path) -> None:
    told = 0
    for round_ in range(6):
        process = subprocess.Popen([sys.executable, "-c", KILLED, f"files:{root}"], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.03 * round_)
        process.kill()
        told = max([told, *(int(line) for line in process.stdout.read().split())])
        process.communicate()
    journal = journal_at(root)
    end = journal.next_offset("t", 0)
    assert end is not None
    assert end >= told > 0
    expected = [(offset, value) for offset, _, _, value in records("rcx" * (end // 3))]
    assert [(found.offset, found.value) for found in journal.read("t", 0)] == expected


def test_what_a_dead_writer_left_behind_is_cleared_and_a_living_one_is_let_alone(root: Path) -> None:
    old = time.time() - 4_000
    for name in ("dead", "living"):
        folder = root / ".staging" / name
        folder.mkdir(parents=True)
        (folder / "half.avro").write_bytes(b"half")
    os.utime(root / ".staging" / "dead", (old, old))
    journal_at(root).append(TOPIC, 0, records("r"), first=0)
    assert [path.name for path in (root / ".staging").iterdir()] == ["living"]


class Disk(LocalDisk):
    """A disk whose user stops before the ``stop_at``-th move; nothing happens any more then."""

    def __init__(self, root: Path, stop_at: int) -> None:
        super().__init__(root)
        self.stop_at = stop_at

    def rename(self, source: str, target: str) -> bool:
        self.stop_at -= 1
        if self.stop_at <= 0:
            raise KeyboardInterrupt
        return super().rename(source, target)

    def delete(self, path: str) -> None:
        if self.stop_at > 0:
            super().delete(path)


@pytest.mark.parametrize("stop_at", [1, 2])
def test_an_append_whose_writer_stopped_between_its_steps_is_finished_or_forgotten(root: Path, stop_at: int) -> None:
    schemas = Schemas.with_shipped()
    journal_at(root).append(TOPIC, 0, records("rr"), first=0)
    with pytest.raises(KeyboardInterrupt):
        FilesJournal(Disk(root, stop_at), schemas).append(TOPIC, 0, records("rcr", first=2), first=2)
    journal = journal_at(root)
    assert journal.next_offset(TOPIC, 0) == 2
    position = 2
    while position < 10:
        try:
            position = journal.append(TOPIC, 0, records("r" * (10 - position), first=position), first=position)
        except Overtaken as overtaken:
            position = overtaken.next_offset
    ends = [extent.next for extent in journal.extents(TOPIC, 0)]
    assert ends == ([2, 10] if stop_at == 1 else [2, 5, 10])
    assert [found.offset for found in journal.read(TOPIC, 0)] == list(range(10))


def test_lost_offsets_found_at_two_hours_at_once_are_noted_once(root: Path) -> None:
    journal = journal_at(root)
    journal.append(TOPIC, 0, records("r"), first=0)
    journal.append_lost(TOPIC, 0, first=1, next_offset=5, time=HOUR - 1, reason="expired")
    with pytest.raises(Overtaken):
        journal.append_lost(TOPIC, 0, first=1, next_offset=7, time=HOUR, reason="expired")
    assert list(journal.extents(TOPIC, 0)) == [Extent(0, 1), Extent(1, 5)]


def test_a_writer_whose_staged_files_were_cleared_away_fails_and_appends_nothing(root: Path) -> None:
    class Cleared(LocalDisk):
        def names(self, folder: str) -> list[str]:
            if folder.startswith(".staging/"):
                for file in (self._root / folder).glob("*.Reading.*"):
                    file.unlink()
            return super().names(folder)

    with pytest.raises(StoreUnavailable, match="cleared away"):
        FilesJournal(Cleared(root), Schemas.with_shipped()).append(TOPIC, 0, records("rc"), first=0)
    assert journal_at(root).next_offset(TOPIC, 0) is None
