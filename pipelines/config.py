"""What a pipeline's TOML file says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from schemas.errors import ConfigurationError
from schemas.registry import EventSchema, Schemas, load_event_schema
from settings import Bytes, Seconds, load
from transforms.measures import AggregateConfig, measures_of
from transforms.windows import WindowSpec, check_windows

_LONGEST_SESSION: Final = Seconds(86_400)


class WindowConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[windows.NAME]``."""

    #: How long it lasts; of a session its data say that.
    size: Seconds | None = None
    kind: Literal["fixed", "sliding", "session"] = "fixed"
    #: How often a sliding window starts.
    every: Seconds | None = None
    #: A session ends this long after an event that no other follows within it.
    gap: Seconds | None = None
    #: Sessions are cut at multiples of it since 1970, UTC: a restart must read again as much.
    longest: Seconds | None = None
    #: How long after its end, by event time, a window still takes late events; of sessions, how long after their period's end.
    allowed_lateness: Seconds = Seconds(86_400)
    #: What its rows hold beyond count, sum, mean, min and max: stddev, first, last, percentiles (p95), those of ``[aggregates]``.
    aggregates: tuple[str, ...] = ()
    #: Of percentiles: how far they may be off, relative to their value.
    accuracy: float = 0.001

    def __post_init__(self) -> None:
        if self.kind == "sliding" and self.every is None:
            raise ValueError("a sliding window needs 'every', how often it starts")
        if self.kind == "session" and not (self.gap and self.gap > 0):
            raise ValueError("a session needs 'gap', above zero: how long after its last event it ends")
        if self.kind != "session" and self.size is None:
            raise ValueError("needs 'size', how long it lasts")
        belongs = {"size": ("fixed", "sliding"), "every": ("sliding",), "gap": ("session",), "longest": ("session",)}
        for name, kinds in belongs.items():
            if getattr(self, name) is not None and self.kind not in kinds:
                raise ValueError(f"a {self.kind} window has no '{name}'; write kind = \"{kinds[-1]}\"")

    def spec(self, name: str, own: Mapping[str, AggregateConfig]) -> WindowSpec:
        """``own`` are the user's aggregates. Raises `ConfigurationError`."""
        size = _micros(next(length for length in (self.size, self.longest, _LONGEST_SESSION) if length is not None))
        every = size if self.every is None else _micros(self.every)
        measures = measures_of(self.aggregates, accuracy=self.accuracy, own=own, where=f"windows.{name}: ")
        return WindowSpec(name, size, every, _micros(self.allowed_lateness), measures, _micros(self.gap) if self.gap else 0)


class SourceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[source]``."""

    #: How far out of order event times may be within a partition before they count as late.
    disorder: Seconds = Seconds(10)
    #: How far event times may be ahead of the clock.
    future: Seconds = Seconds(300)
    #: How often a partition that has been read to its end is looked at.
    poll: Seconds = Seconds(0.02)
    #: How much is read and decoded at once, at most.
    block_bytes: Bytes = Bytes(1_100_000)


class CommandsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[commands]``."""

    #: URL of the broker that commands are published to. By default the master says it, or it is that of the first source.
    broker: str = ""


class PipelineConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. Every field may be left out."""

    #: User schemas beside the shipped ones: ``.avsc`` files, relative to the pipeline's.
    schemas: tuple[str, ...] = ()
    #: URLs of sinks, beside those of ``--sink``.
    sinks: tuple[str, ...] = ()
    #: Shards of the aggregation: more of them spread it over more workers, and cost more.
    shards: int = 1
    source: SourceConfig = msgspec.field(default_factory=SourceConfig)
    windows: dict[str, WindowConfig] = msgspec.field(default_factory=dict)
    #: Aggregates of the user's own, which windows may be asked for by name.
    aggregates: dict[str, AggregateConfig] = msgspec.field(default_factory=dict)
    commands: CommandsConfig = msgspec.field(default_factory=CommandsConfig)
    #: `transforms.rules` reads them.
    rules: Any = None

    def __post_init__(self) -> None:
        if self.shards < 1:
            raise ValueError("shards must be at least 1")
        for name in self.windows:
            if "|" in name:
                raise ValueError(f"the window {name!r}: '|' cannot be part of a name")

    def window_specs(self) -> tuple[WindowSpec, ...]:
        """Raises `ConfigurationError` for windows that make no sense, or could not be told apart."""
        specs = tuple(config.spec(name, self.aggregates) for name, config in self.windows.items())
        check_windows(specs)
        return specs


def load_config(path: Path | None) -> PipelineConfig:
    """Read a pipeline's file; without one, everything is as by default. Raises `ConfigurationError`."""
    if path is None:
        return PipelineConfig()
    config = load(path, PipelineConfig)
    try:
        config.window_specs()
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error.message}", remedy=error.remedy) from error
    return config


def load_schemas(config: PipelineConfig, origin: Path | None) -> tuple[EventSchema, ...]:
    """The shipped schemas and those the file names. Raises `SchemaError`."""
    folder = origin.parent if origin is not None else Path()
    return tuple(Schemas.with_shipped(load_event_schema(folder / name) for name in config.schemas))


def _micros(seconds: Seconds) -> int:
    return round(seconds * 1_000_000)
