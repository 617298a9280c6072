"""Compression of container blocks (Avro 1.12 specification, "Required Codecs", "Optional Codecs")."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import Final, Literal, get_args

from schemas.errors import ConfigurationError

Codec = Literal["null", "deflate", "zstandard"]
CODECS: Final[tuple[Codec, ...]] = get_args(Codec)
#: As a URL may say it.
CodecName = Literal["null", "deflate", "zstandard", "zstd"]
_LEVELS: Final[dict[Codec, tuple[int, int, int]]] = {"null": (0, 0, 0), "deflate": (1, 9, 1), "zstandard": (1, 19, 1)}
#: Avro's deflate is the raw format, without zlib's header and checksum.
_RAW: Final = -15


def codec_named(name: CodecName) -> Codec:
    """The codec, by the name that Avro has for it."""
    return "zstandard" if name == "zstd" else name


def check_level(codec: Codec, level: int | None) -> int:
    """The level to use. Raises `ConfigurationError` for one the codec does not have."""
    least, most, default = _LEVELS[codec]
    if level is None:
        return default
    if not least <= level <= most:
        raise ConfigurationError(f"level {level} of the codec {codec!r}", remedy=f"{least} to {most}")
    return level


def compressor(codec: Codec, level: int) -> Callable[[bytes], bytes]:
    """Raises `ConfigurationError` when the codec's library is not installed."""
    if codec == "deflate":

        def deflate(data: bytes) -> bytes:
            stream = zlib.compressobj(level, zlib.DEFLATED, _RAW)
            return stream.compress(data) + stream.flush()

        return deflate
    if codec == "zstandard":
        zstd = _zstd()
        return lambda data: bytes(zstd.compress(data, level))
    return bytes


def decompressor(codec: str) -> Callable[[bytes], bytes]:
    """Raises `ConfigurationError` for a codec that is unknown or whose library is not installed."""
    if codec == "null":
        return bytes
    if codec == "deflate":
        return lambda data: zlib.decompress(data, _RAW)
    if codec == "zstandard":
        zstd = _zstd()
        return lambda data: bytes(zstd.decompress(data))
    raise ConfigurationError(f"the codec {codec!r} is not known", remedy="one of " + ", ".join(CODECS))


def _zstd() -> ModuleType:
    # The library that fastavro reads these files with.
    try:
        return importlib.import_module("backports.zstd")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "the codec 'zstandard' needs the library backports.zstd", remedy="pip install 'iotcloud[files]'"
        ) from error
