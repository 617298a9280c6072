"""Records of a partition into books: identities in columns, what is between them one by one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from pipelines.prove.books import Book, Place, head_of
from schemas.fingerprint import MAGIC, PREFIX_BYTES
from schemas.registry import Schemas
from transforms.decode import Decoded, Decoder

Ints = npt.NDArray[np.int64]
_NONE: Final = np.zeros(0, np.int64)


class Shelf:
    """All books, by topic and gateway."""

    def __init__(self, schemas: Schemas) -> None:
        self.books: dict[tuple[str, str], Book] = {}
        #: Dead letters of which nobody can say whose they are, by topic.
        self.nobodys: defaultdict[str, int] = defaultdict(int)
        #: Frames by fingerprints that are not known.
        self.unknown: defaultdict[str, int] = defaultdict(int)
        self.decoder = Decoder(schemas)
        self.known = {schema.fingerprint for schema in schemas}

    def book(self, topic: str, gateway: str) -> Book:
        return self.books.setdefault((topic, gateway), Book())

    def end_of_archive(self) -> None:
        """All of the archive was read; what comes now is in the broker."""
        for book in self.books.values():
            book.archived = book.position

    def close(self) -> None:
        """All was read."""
        for book in self.books.values():
            book.close()


class Reading:
    """Takes in the records of one partition in their order: of the archive, or, not ``archived``, of the log behind it."""

    def __init__(self, shelf: Shelf, topic: str, *, archived: bool, begins_late: bool = False) -> None:
        """``begins_late``: records were in the log before the first of these."""
        self._shelf = shelf
        self._topic = topic
        self._archived = archived
        self._begins_late = begins_late

    def take(self, keys: Sequence[str], frames: Sequence[bytes]) -> None:
        decoded = self._shelf.decoder.decode(frames)
        names, codes, epochs, firsts, counts, places = _heads(decoded)
        dead = {place for place, _ in decoded.dead}
        start = 0
        for place, record in sorted([*decoded.control, *((place, None) for place in dead)], key=lambda found: found[0]):
            end = int(np.searchsorted(places, place))
            self._runs(names, codes[start:end], epochs[start:end], firsts[start:end], counts[start:end])
            start = end
            if record is None:
                self._dead_letter(keys[place], frames[place])
            else:
                self._begin(self._shelf.book(self._topic, record.gateway), Place(record.epoch, 0)).read_control(record)
        self._runs(names, codes[start:], epochs[start:], firsts[start:], counts[start:])

    def _runs(self, names: Sequence[str], codes: Ints, epochs: Ints, firsts: Ints, counts: Ints) -> None:
        for code, number, first, following in _runs(codes, epochs, firsts, counts):
            book = self._begin(self._shelf.book(self._topic, names[code]), Place(number, first))
            book.advance(number, first, following)
            epoch = book.epoch(number)
            new = (epoch.stored if self._archived else epoch.in_broker).add(first, following)
            if self._archived:
                epoch.duplicates += following - first - sum(end - start for start, end in new)

    def _begin(self, book: Book, place: Place) -> Book:
        if self._begins_late and book.position.epoch < 0:
            book.begins = place
        return book

    def _dead_letter(self, key: str, frame: bytes) -> None:
        prefix = frame[:PREFIX_BYTES]
        if prefix[: len(MAGIC)] == MAGIC and len(prefix) == PREFIX_BYTES and prefix[len(MAGIC) :] not in self._shelf.known:
            self._shelf.unknown[prefix[len(MAGIC) :].hex()] += 1
        head = head_of(frame)
        if head is not None and (self._topic, head.gateway) not in self._shelf.books and head.gateway != key:
            head = None
        gateway = head.gateway if head is not None else key
        if not gateway:
            self._shelf.nobodys[self._topic] += 1
            return
        self._shelf.book(self._topic, gateway).dead_letter(head)


def _heads(decoded: Decoded) -> tuple[list[str], Ints, Ints, Ints, Ints, Ints]:
    """Names of gateways; code of the gateway, epoch, first seq, count and place of every frame, in the order of places."""
    if not decoded.events:
        return [], _NONE, _NONE, _NONE, _NONE, _NONE
    heads = pl.concat(
        part.columns.select("gateway", "epoch", "seq")[np.cumsum(part.counts) - part.counts] for part in decoded.events
    )
    names: dict[str, int] = {}
    codes = np.array([names.setdefault(name, len(names)) for name in heads.get_column("gateway").to_list()], np.int64)
    places = np.concatenate([part.places for part in decoded.events])
    counts = np.concatenate([part.counts for part in decoded.events])
    order = np.argsort(places)
    epochs, firsts = heads.get_column("epoch").to_numpy(), heads.get_column("seq").to_numpy()
    return list(names), codes[order], epochs[order], firsts[order], counts[order], places[order]


def _runs(codes: Ints, epochs: Ints, firsts: Ints, counts: Ints) -> Iterator[tuple[int, int, int, int]]:
    """Code of the gateway, epoch, first seq and next of frames that follow each other, each gateway's in their order."""
    if not len(codes):
        return
    if (codes != codes[0]).any():
        order = np.argsort(codes, kind="stable")
        codes, epochs, firsts, counts = codes[order], epochs[order], firsts[order], counts[order]
    nexts = firsts + counts
    breaks = np.flatnonzero((codes[1:] != codes[:-1]) | (epochs[1:] != epochs[:-1]) | (firsts[1:] != nexts[:-1])) + 1
    starts = np.concatenate([_NONE, [0], breaks]).astype(np.int64)
    ends = np.concatenate([breaks, [len(codes)]]).astype(np.int64) - 1
    yield from zip(codes[starts].tolist(), epochs[starts].tolist(), firsts[starts].tolist(), nexts[ends].tolist(), strict=True)
