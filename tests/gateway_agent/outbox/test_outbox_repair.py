"""A file whose structure is broken is replaced by one with all that can be read, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway_agent.outbox import Batch, Offer, OutboxDamaged, OutboxError, Route
from gateway_agent.outbox.account import account_of
from gateway_agent.outbox.inspect import inspect_outbox
from gateway_agent.outbox.layout import open_file
from gateway_agent.outbox.salvage import salvage
from tests.gateway_agent.outbox.kit import BLOB, GATEWAY, MAIN, batch, blob_tail, break_a_leaf, open_outbox, publish_all

LATER = 1_900_000_000_000_000


def filled(directory: Path) -> None:
    """Fifty frames in pages of their own, and a state."""
    outbox = open_outbox(directory)
    camera = Route("s.a.frames", MAIN, BLOB)
    outbox.accept(Batch("app", [Offer(camera, [blob_tail(20_000)])] * 50, b'{"kept": 1}'))
    outbox.close()


def check_whole(directory: Path) -> None:
    outbox = open_outbox(directory)
    held = publish_all(outbox)
    outbox.accept(Batch("nobody", []))
    status = outbox.status()
    assert status.published == sum(one.count for one in held) > 0
    assert status.accepted == status.published + status.dropped == 50
    assert outbox.state_of("app") == b'{"kept": 1}'
    outbox.close()


def test_a_broken_file_is_told_from_other_trouble_and_what_can_be_read_is_saved(tmp_path: Path) -> None:
    """Guarantee: after a repair what is left leaves in order, and what is lost is counted."""
    outbox = open_outbox(tmp_path)
    camera = Route("s.a.frames", MAIN, BLOB)
    for _ in range(50):
        outbox.accept(Batch("app", [Offer(camera, [blob_tail(20_000)])], b'{"kept": 1}'))
    epoch = outbox.epoch
    outbox.close()
    path = tmp_path / "outbox.sqlite"
    break_a_leaf(path)
    saved = salvage(path, gateway=GATEWAY, now=1_900_000_000_000_000)
    assert saved.kept.exists()
    again = open_outbox(tmp_path)
    assert again.epoch > epoch
    held = publish_all(again)
    again.accept(Batch("nobody", []))
    status = again.status()
    assert status.published == sum(one.count for one in held)
    assert status.accepted == status.published + status.dropped == 50
    assert again.state_of("app") == b'{"kept": 1}'
    again.close()


def test_a_file_that_is_no_database_is_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "outbox.sqlite").write_bytes(b"rubbish" * 5000)
    with pytest.raises(OutboxDamaged, match="repair"):
        open_outbox(tmp_path)
    saved = salvage(tmp_path / "outbox.sqlite", gateway=GATEWAY, now=1)
    assert not saved.complete
    outbox = open_outbox(tmp_path)
    outbox.accept(batch([1.0]))
    outbox.close()


def test_damage_that_is_found_in_use_is_remembered_and_repaired_before_the_next_use(tmp_path: Path) -> None:
    filled(tmp_path)
    path = tmp_path / "outbox.sqlite"
    break_a_leaf(path)
    outbox = open_outbox(tmp_path)
    publish_all(outbox)
    assert isinstance(outbox.failed, OutboxDamaged)
    outbox.close()
    with pytest.raises(OutboxDamaged, match="found when it was in use"):
        open_outbox(tmp_path)
    salvage(path, gateway=GATEWAY, now=LATER)
    open_outbox(tmp_path).close()


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("renames", range(4))
@pytest.mark.parametrize("log", [True, False])
def test_a_repair_that_is_killed_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int, log: bool) -> None:
    """Guarantee: killed before or after any renaming, what could be saved is there at the next start, never an empty outbox."""
    filled(tmp_path)
    path = tmp_path / "outbox.sqlite"
    break_a_leaf(path)
    if log:
        # As the process before left it.
        (tmp_path / "outbox.sqlite-wal").touch()
    real, done = Path.rename, []

    def rename(self: Path, target: Any) -> Path:
        if len(done) == renames:
            raise _Killed
        done.append(self)
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with contextlib.suppress(_Killed):
        salvage(path, gateway=GATEWAY, now=LATER)
    monkeypatch.undo()
    if renames < 2:
        # The broken file is still in its place, and found broken again.
        salvage(path, gateway=GATEWAY, now=LATER + 1_000)
    check_whole(tmp_path)


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """The kernel refuses to let files grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_repair_without_room_says_so_and_leaves_all_as_it_was(tmp_path: Path) -> None:
    filled(tmp_path)
    path = tmp_path / "outbox.sqlite"
    break_a_leaf(path)
    with no_file_beyond(300_000), pytest.raises(OutboxError, match="cannot be repaired") as raised:
        salvage(path, gateway=GATEWAY, now=LATER)
    assert "room for a second copy" in raised.value.remedy
    assert not list(tmp_path.glob("*draft*"))
    salvage(path, gateway=GATEWAY, now=LATER)
    check_whole(tmp_path)


def test_an_outbox_in_which_nothing_has_begun_is_told_to_those_who_look(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    open_file(path).close()
    for look in (account_of, inspect_outbox):
        with pytest.raises(OutboxError, match="holds nothing yet"):
            look(path)
