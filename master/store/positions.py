"""How far the results of gateways have been read, as `brokers.positions.Positions` in the database."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from sqlalchemy import delete, select

from brokers.positions import Place
from master.store.database import Database, upsert
from master.store.tables import positions


class StoredPositions:
    """The positions in one broker."""

    def __init__(self, database: Database, broker: str) -> None:
        self._database = database
        self._broker = broker

    def load(self, topic: str, partition: int) -> int | None:
        place = (positions.c.broker == self._broker, positions.c.topic == topic, positions.c.partition == partition)
        with self._database.read() as connection:
            return connection.execute(select(positions.c.next_offset).where(*place)).scalar_one_or_none()

    def store(self, places: Mapping[Place, int]) -> None:
        rows = [
            {"broker": self._broker, "topic": topic, "partition": partition, "next_offset": offset}
            for (topic, partition), offset in places.items()
        ]
        with self._database.write() as connection:
            upsert(connection, positions, rows)

    def stored(self, topics: Collection[str]) -> dict[Place, int]:
        """All that are stored of ``topics``."""
        query = select(positions).where(positions.c.broker == self._broker)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return {(row.topic, row.partition): row.next_offset for row in rows if row.topic in topics}

    def forget(self, places: Iterable[Place]) -> None:
        """Begin these anew: the log is not the one whose offsets these were."""
        with self._database.write() as connection:
            for topic, partition in places:
                place = (positions.c.broker == self._broker, positions.c.topic == topic, positions.c.partition == partition)
                connection.execute(delete(positions).where(*place))
