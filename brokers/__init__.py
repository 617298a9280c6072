"""Message brokers behind one contract (`brokers.contract`); `connect` finds the one a URL names."""

from brokers.connect import connect
from brokers.contract import Broker, Capabilities, Delivery, LogReader, Message, Publisher, QueueReader, Record
from brokers.errors import BrokerError, BrokerRefused, BrokerUnavailable, OffsetExpired, PublishError

__all__ = [
    "Broker",
    "BrokerError",
    "BrokerRefused",
    "BrokerUnavailable",
    "Capabilities",
    "Delivery",
    "LogReader",
    "Message",
    "OffsetExpired",
    "PublishError",
    "Publisher",
    "QueueReader",
    "Record",
    "connect",
]
