"""Rules as a pipeline's TOML file gives them, and checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
import polars as pl

from schemas.errors import ConfigurationError
from schemas.registry import EventSchema
from schemas.topics import commands_topic
from settings import Seconds, convert, seconds_of
from transforms.aggregates import row_types
from transforms.columns import column_types
from transforms.jsontext import finite
from transforms.rules import condition, template
from transforms.sessions import session_types
from transforms.windows import WindowSpec

_LIMIT: Final = re.compile(r"\s*(\d+)\s*/\s*(.+)")


class CommandConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``command = {…}``: an order. Every text may hold columns of the cause in braces, such as ``fan-{device}``."""

    gateway: str
    device: str
    name: str
    args: dict[str, Any] = msgspec.field(default_factory=dict)
    #: How long after it was decided, by the clock, it may still be executed.
    deadline: Seconds = Seconds(30)


class RuleConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[rules.NAME]``."""

    on: Literal["events", "windows"]
    window: str = ""
    channel: str = "*"
    device: str = "*"
    when: str = ""
    hold: Seconds = msgspec.field(name="for", default=Seconds(0))
    until: str = ""
    trigger: Literal["change", "each"] = "change"
    limit: str = ""
    absent: Seconds = Seconds(0)
    alert: bool = False
    command: CommandConfig | None = None
    otherwise: CommandConfig | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``count`` times in ``per`` µs."""

    count: int
    per: int


@dataclass(frozen=True, slots=True)
class Rule:
    """A checked rule. Durations in µs."""

    name: str
    #: None for a rule on events.
    window: WindowSpec | None
    channel: str
    device: str
    when: str
    until: str
    hold: int
    each: bool
    limit: Limit | None
    absent: int
    alert: bool
    command: CommandConfig | None
    otherwise: CommandConfig | None

    @property
    def is_ordered(self) -> bool:
        """Whether rows are judged in the order of their time, behind the watermark, and not as they come."""
        return self.window is not None or bool(self.hold)


def load_rules(data: object, *, origin: str, windows: Sequence[WindowSpec], schemas: Iterable[EventSchema]) -> tuple[Rule, ...]:
    """The rules of a file's table ``[rules]``. ``origin`` (the file's name) begins every error. Raises `ConfigurationError`."""
    configs = convert(data or {}, dict[str, RuleConfig], origin=origin, at=("rules",))
    events = [column_types(schema) for schema in schemas]
    rules = []
    for name, config in configs.items():
        try:
            rules.append(_rule(name, config, {window.name: window for window in windows}, events))
        except ConfigurationError as error:
            raise ConfigurationError(f"{origin}: rules.{name}: {error.message}", remedy=error.remedy) from error
    return tuple(rules)


def _rule(name: str, config: RuleConfig, windows: dict[str, WindowSpec], events: list[dict[str, pl.DataType]]) -> Rule:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ConfigurationError("is not a name", remedy="letters, digits, '_' and '-'")
    _check_combination(config)
    window = _window(config, windows)
    schemas = [session_types(window) if window.gap else row_types(window)] if window else events
    for field, text in (("when", config.when), ("until", config.until)):
        if text:
            try:
                condition.check(text, schemas)
            except ConfigurationError as error:
                raise ConfigurationError(f"{field}: {error.message}", remedy=error.remedy) from error
    for field, command in (("command", config.command), ("otherwise", config.otherwise)):
        if command is not None:
            _check_command(field, command, config, schemas)
    return Rule(
        name=name,
        window=window,
        channel=config.channel,
        device=config.device,
        when=config.when,
        until=config.until or (f"NOT ({config.when})" if config.when else ""),
        hold=_micros(config.hold),
        each=config.trigger == "each",
        limit=_limit(config.limit),
        absent=_micros(config.absent),
        alert=config.alert,
        command=config.command,
        otherwise=config.otherwise,
    )


def _check_combination(config: RuleConfig) -> None:
    if bool(config.when) == bool(config.absent):
        raise ConfigurationError("needs either 'when' or 'absent'", remedy='such as when = "value > 70", or absent = "2m"')
    if config.absent and (config.until or config.hold or config.limit or config.trigger == "each"):
        raise ConfigurationError(
            "'absent' goes without 'until', 'for', 'limit' and 'trigger'", remedy="it ends with the next row"
        )
    if config.trigger == "each" and (config.until or config.hold or config.otherwise):
        raise ConfigurationError(
            "trigger = \"each\" goes without 'until', 'for' and 'otherwise'", remedy="it never ceases to hold"
        )
    if config.on == "events" and config.window:
        raise ConfigurationError("a rule on events has no 'window'")
    if not (config.alert or config.command or config.otherwise):
        raise ConfigurationError("does nothing", remedy="give it alert = true, or a command")


def _window(config: RuleConfig, windows: dict[str, WindowSpec]) -> WindowSpec | None:
    if config.on == "events":
        return None
    if config.window not in windows:
        raise ConfigurationError(
            f"window: there is no window {config.window!r}" if config.window else "window: needs the name of a window",
            remedy="defined: " + (", ".join(windows) or "none; add [windows.NAME]"),
        )
    return windows[config.window]


def _check_command(field: str, command: CommandConfig, config: RuleConfig, schemas: list[dict[str, pl.DataType]]) -> None:
    known = {"device", "channel"} if config.absent else {name for schema in schemas for name in schema}
    for text in template.texts([command.gateway, command.device, command.name, command.args]):
        for name in template.names(text):
            if name not in known:
                raise ConfigurationError(
                    f"{field}: {{{name}}} is no column of the cause", remedy="columns: " + ", ".join(sorted(known))
                )
    if not template.names(command.gateway):
        commands_topic(command.gateway)
    if finite(command.args) != command.args:
        raise ConfigurationError(f"{field}: args hold a number that JSON cannot write", remedy="give a finite number, or a text")
    if command.deadline <= 0:
        raise ConfigurationError(f"{field}: deadline must be above zero")


def _limit(text: str) -> Limit | None:
    if not text:
        return None
    match = _LIMIT.fullmatch(text)
    try:
        if match is None or int(match[1]) < 1:
            raise ValueError
        return Limit(int(match[1]), _micros(seconds_of(match[2])))
    except ValueError:
        raise ConfigurationError(f"limit: {text!r} is no limit", remedy='write number/duration, such as "1/10s"') from None


def _micros(seconds: float) -> int:
    return round(seconds * 1_000_000)
