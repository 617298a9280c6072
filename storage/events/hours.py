"""Reading hours: their manifests, and their events, complete even while an hour is put in another's place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import BinaryIO, Final

import polars as pl

from schemas.registry import EventSchema
from storage.errors import StoreRefused, StoreUnavailable
from storage.events.files import Files
from storage.events.forms import FORMS
from storage.events.layout import MANIFEST, PROGRESS, Hour
from storage.events.manifest import Manifest, Part, Progress, decode

#: How often an hour may be replaced while it is read, before that is an error.
_MOST_SWAPS: Final = 20


def read_manifest(files: Files, hour: Hour) -> Manifest | None:
    """None where there is no such hour. Raises `StoreRefused` for a damaged one."""
    path = f"{hour.path}/{MANIFEST}"
    try:
        with files.open(path) as file:
            return decode(file.read(), Manifest, origin=f"{files.url}/{path}")
    except FileNotFoundError:
        return None


def read_progress(files: Files) -> Progress:
    """That of a new archive where there is none. Raises `StoreRefused` for a damaged one."""
    try:
        with files.open(PROGRESS) as file:
            return decode(file.read(), Progress, origin=f"{files.url}/{PROGRESS}")
    except FileNotFoundError:
        return Progress()


def schema_of(manifest: Manifest, part: Part) -> EventSchema:
    """The stored schema of a part."""
    try:
        text = manifest.schemas[part.fingerprint]
    except KeyError:
        raise StoreRefused(f"{manifest.hour}: the manifest lacks the schema of {part.name}") from None
    return EventSchema(text, _name(text), bytes.fromhex(part.fingerprint))


def events_of(files: Files, hour: Hour) -> Iterator[tuple[EventSchema, pl.DataFrame]]:
    """The events of an hour, part by part, with their stored schemas; columns `storage.events.schema.row_types`.

    All are of one version of the hour, also when it is replaced meanwhile.
    """
    with ExitStack() as stack:
        manifest, opened = _opened(files, hour, stack)
        for part, file in opened:
            schema = schema_of(manifest, part)
            origin = f"{files.url}/{hour.path}/{part.name}"
            columns = FORMS[manifest.format].columns(file, schema, origin=origin)
            if len(columns) != part.rows:
                raise StoreRefused(f"{origin}: holds {len(columns)} events, the manifest says {part.rows}")
            yield schema, columns


def _opened(files: Files, hour: Hour, stack: ExitStack) -> tuple[Manifest, list[tuple[Part, BinaryIO]]]:
    """The manifest and its parts, all open: what is taken away then can still be read."""
    for _ in range(_MOST_SWAPS):
        manifest = read_manifest(files, hour)
        if manifest is None:
            raise StoreUnavailable(f"{files.url}: {hour} is not there, or not any more", remedy="run it again")
        try:
            return manifest, [(part, stack.enter_context(files.open(f"{hour.path}/{part.name}"))) for part in manifest.parts]
        except FileNotFoundError as error:
            if read_manifest(files, hour) == manifest:
                raise StoreRefused(
                    f"{files.url}: {hour}: a file that the manifest names is missing", remedy="'verify' tells which"
                ) from error
    raise StoreUnavailable(f"{files.url}: {hour} was replaced again and again while it was read", remedy="run it again")


def digest(file: BinaryIO) -> str:
    """SHA-256 of what is left of a file, hexadecimal."""
    found = hashlib.sha256()
    while data := file.read(1 << 20):
        found.update(data)
    return found.hexdigest()


def _name(text: str) -> str:
    import fastavro.schema
    import msgspec

    return str(fastavro.schema.fullname(msgspec.json.decode(text)))
