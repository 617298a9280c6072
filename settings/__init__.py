"""Configuration files: TOML into checked types, with errors that name file, line and the nearest valid name."""

from settings.load import convert, load, parse
from settings.places import line_of, lines_of, place
from settings.quantities import Bytes, Seconds, bytes_of, seconds_of
from settings.substitution import expand, redact

__all__ = [
    "Bytes",
    "Seconds",
    "bytes_of",
    "convert",
    "expand",
    "line_of",
    "lines_of",
    "load",
    "parse",
    "place",
    "redact",
    "seconds_of",
]
