"""For programs that use a master: what there is, events of a device, commands to it.

    from master.client import Client

    with Client("http://127.0.0.1:8080", token="file:master/token") as client:
        pump = client.device("pump-7")
        with pump.subscribe("pressure", timeout=10) as events:
            for event in events:
                print(event["event_time"], event["value"])
        print(pump.command("set_speed", rpm=900, deadline=5).result())

Events are read from the broker directly, at the address the master gives. Nothing of the server is imported.
"""

from master.client.client import Client, Device
from master.client.command import SentCommand
from master.client.errors import CommandFailed, CommandPending, MasterError, MasterRefused, MasterUnavailable
from master.client.select import Selected, TopicAddress
from master.client.subscription import Subscription, Unreadable
from master.selection import Selection, parse_selection

__all__ = [
    "Client",
    "CommandFailed",
    "CommandPending",
    "Device",
    "MasterError",
    "MasterRefused",
    "MasterUnavailable",
    "Selected",
    "Selection",
    "SentCommand",
    "Subscription",
    "TopicAddress",
    "Unreadable",
    "parse_selection",
]
