"""Checking an application's configuration against its driver, in the calling process."""

from __future__ import annotations

import sys

from gateway_agent.config import Loaded
from gateway_agent.find import channel_schema, find_driver, make_driver
from gateway_agent.host.messages import ChannelSpec, Hello
from gateway_agent.wiring import describe, wire
from schemas.errors import ConfigurationError, IoTCloudError


def check_places(loaded: Loaded) -> None:
    """Whether the folders can be that the agent writes to; makes none. Raises `ConfigurationError`."""
    there = next(path for path in (loaded.data_dir, *loaded.data_dir.parents) if path.exists())
    if not there.is_dir():
        raise loaded.error(("gateway", "data_dir"), f"{there} is no folder", remedy="name another")
    folder = loaded.status_url_file.parent
    if loaded.config.status.url_file and folder != loaded.data_dir and not folder.is_dir():
        raise loaded.error(("status", "url_file"), f"{folder} is no folder", remedy="make it, or name another")


def check_application(loaded: Loaded, name: str) -> list[str]:
    """Its topics. Imports the driver. Raises `IoTCloudError` with file, line and field of what is wrong."""
    section = loaded.config.applications[name]
    folder = str(loaded.path.parent)
    if folder not in sys.path:
        sys.path.append(folder)  # as in the application's own process
    try:
        driver_class = find_driver(section.driver)
    except ConfigurationError as error:
        raise loaded.error(("applications", name, "driver"), error.message, remedy=error.remedy) from error
    except Exception as error:
        raise loaded.error(("applications", name, "driver"), f"cannot be imported: {type(error).__name__}: {error}") from error
    try:
        driver = make_driver(driver_class, section.settings, origin=str(loaded.path), application=name, lines=loaded.lines)
        declared, devices = list(driver.channels), tuple(driver.devices())
    except IoTCloudError:
        raise
    except Exception as error:
        raise loaded.error(
            ("applications", name, "settings"), f"the driver cannot be made: {type(error).__name__}: {error}"
        ) from error
    channels = []
    for channel in declared:
        own = section.channels.get(channel.name)
        try:
            schema = channel_schema(channel, driver_class, override=own.schema if own else None, folder=loaded.path.parent)
        except IoTCloudError as error:
            raise loaded.error(
                ("applications", name, "channels", channel.name, "schema"), error.message, remedy=error.remedy
            ) from error
        channels.append(ChannelSpec(channel.name, schema.text, channel.direction))
    hello = Hello("", tuple(channels), (), devices)
    wire(loaded, name, hello, loaded.brokers())
    return [channel.topic for channel in describe(loaded, name, hello).channels]
