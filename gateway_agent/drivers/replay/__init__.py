"""Replays a recorded file: events of CSV or JSON lines at their own pace or another, or captured bytes into a pty."""

from __future__ import annotations

from gateway_agent.driver import Channel, Context, Driver
from gateway_agent.drivers.replay.settings import ReplaySettings

__all__ = ["driver"]


class Replay(Driver[ReplaySettings]):
    """One recorded file. `run` returns at its end."""

    Settings = ReplaySettings

    def __init__(self, settings: ReplaySettings) -> None:
        super().__init__(settings)
        if settings.format == "bytes":
            from gateway_agent.drivers.replay.capture import check

            check(settings)
            return
        from gateway_agent.drivers.replay.mapping import schema_of
        from gateway_agent.drivers.replay.recording import open_recording

        self._schemas = {name: schema_of(name, columns) for name, columns in settings.channels.items()}
        self.channels = [Channel(name, schema.text) for name, schema in self._schemas.items()]
        with open_recording(settings, self._schemas):
            """A file that is not there, or lacks a column, is refused now."""

    def run(self, context: Context) -> None:
        if self.settings.format == "bytes":
            from gateway_agent.drivers.replay.capture import play_bytes

            play_bytes(context, self.settings)
        else:
            from gateway_agent.drivers.replay.playback import play

            play(context, self.settings, self._schemas)


driver: type[Driver[ReplaySettings]] = Replay
