"""What every `Files` does, wherever it lies. An implementation adds the fixture ``url``: a place of its own for every test."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from storage.errors import StoreRefused
from storage.events.files import Files, open_files

ROOT = Path(__file__).parents[3]
HOUR = "events/schema=A/dt=2010-05-09/hour=03"

ALONE = """
import sys
from storage.events.files import open_files
with open_files(sys.argv[1]).alone():
    print("alone", flush=True)
    sys.stdin.read()
"""


def put(files: Files, target: str, content: dict[str, bytes]) -> None:
    staged = files.stage()
    for name, data in content.items():
        with files.create(f"{staged}/{name}") as file:
            file.write(data)
    files.swap(staged, target)


def content(files: Files, folder: str) -> dict[str, bytes]:
    found = {}
    for name in files.list(folder):
        with files.open(f"{folder}/{name}") as file:
            found[name] = file.read()
    return found


class FilesContract:
    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError

    def test_a_directory_is_put_in_its_place_and_replaced_as_a_whole(self, url: str) -> None:
        files = open_files(url)
        old, new = {"part-1": b"one" * 1000, "_SUCCESS": b""}, {"part-2": b"two", "_SUCCESS": b""}
        with files.alone():
            put(files, HOUR, old)
            assert content(files, HOUR) == old
            with files.open(f"{HOUR}/part-1") as opened:
                put(files, HOUR, new)
                # What was opened is read to its end.
                assert opened.read() == old["part-1"]
                assert opened.seek(3) == 3
                assert opened.read(3) == b"one"
            files.recover()
        assert content(open_files(url), HOUR) == new
        assert files.list("events/schema=A/dt=2010-05-09") == ["hour=03"]
        with pytest.raises(FileNotFoundError):
            files.open(f"{HOUR}/part-1")

    def test_a_small_file_is_replaced(self, url: str) -> None:
        files = open_files(url)
        with files.alone():
            for data in (b"one", b"another", b""):
                files.replace("events/_progress.json", data)
                with files.open("events/_progress.json") as file:
                    assert file.read() == data
            files.recover()
        assert [name for name in files.list("events") if not name.startswith(".")] == ["_progress.json"]

    def test_what_is_removed_is_gone_and_may_come_again(self, url: str) -> None:
        files = open_files(url)
        with files.alone():
            put(files, HOUR, {"part": b"1"})
            files.remove(HOUR)
            assert files.list("events/schema=A/dt=2010-05-09") == []
            put(files, HOUR, {"part": b"2"})
        assert content(files, HOUR) == {"part": b"2"}

    def test_where_nothing_is_there_are_no_names_and_no_file(self, url: str) -> None:
        files = open_files(url)
        assert files.list("events") == files.list(HOUR) == []
        with pytest.raises(FileNotFoundError):
            files.open("events/_progress.json")
        with files.alone():
            files.recover()
            put(files, HOUR, {"part": b"1"})
        assert files.list(f"{HOUR}/part") == []
        with pytest.raises(FileNotFoundError):
            files.open(f"{HOUR}/other")

    def test_a_large_file_is_the_same_when_it_is_read_again(self, url: str) -> None:
        files = open_files(url)
        piece = os.urandom(1 << 20)
        written = hashlib.sha256()
        with files.alone():
            staged = files.stage()
            with files.create(f"{staged}/part") as file:
                for number in range(70):
                    data = number.to_bytes(8, "big") + piece
                    written.update(data)
                    file.write(data)
            files.swap(staged, HOUR)
        with files.open(f"{HOUR}/part") as file:
            assert hashlib.file_digest(file, "sha256").digest() == written.digest()  # type: ignore[arg-type]

    def test_a_reader_finds_the_old_or_the_new_and_never_nothing(self, url: str) -> None:
        files = open_files(url)
        with files.alone():
            put(files, HOUR, {"part": b"0"})
        seen: list[int] = []
        failed: list[BaseException] = []
        done = threading.Event()

        def read() -> None:
            reader = open_files(url)
            try:
                while not done.is_set():
                    assert reader.list(HOUR) == ["part"]
                    assert reader.list("events/schema=A/dt=2010-05-09") == ["hour=03"]
                    with reader.open(f"{HOUR}/part") as file:
                        seen.append(len(file.read()))
            except BaseException as error:
                failed.append(error)

        reading = threading.Thread(target=read)
        reading.start()
        with files.alone():
            for number in range(2, 20):
                put(files, HOUR, {"part": b"0" * number})
        done.set()
        reading.join()
        assert failed == []
        assert seen == sorted(seen)

    def test_one_is_alone_and_gives_a_key_to_those_who_write_for_it(self, url: str) -> None:
        files = open_files(url)
        with files.alone() as key:
            with pytest.raises(StoreRefused, match="another job"), open_files(url).alone():
                pass
            other = open_files(url, key)
            put(other, HOUR, {"part": b"1"})
        with open_files(url).alone():
            assert content(files, HOUR) == {"part": b"1"}

    def test_a_process_that_dies_is_not_alone_any_more_and_what_it_left_is_cleared_away(self, url: str) -> None:
        files = open_files(url)
        process = subprocess.Popen(
            [sys.executable, "-c", ALONE, url], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "alone\n"
            with pytest.raises(StoreRefused, match="another job"), files.alone():
                pass
        finally:
            process.kill()
            process.communicate()
        with files.alone():
            files.stage()
            files.recover()
        assert files.list("events/.staging") == []
