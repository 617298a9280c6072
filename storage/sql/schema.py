"""The tables of `storage.tables` as SQLAlchemy knows them. The migrations make them; this is what they must come to."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TIMESTAMP

from storage.tables import TABLES, Kind, Table

#: A time is text on SQLite; a database with a type for instants has a variant here.
_TYPES: Final[dict[Kind, sa.types.TypeEngine[Any]]] = {
    "time": sa.Text().with_variant(TIMESTAMP(timezone=True), "postgresql"),
    "text": sa.Text(),
    "integer": sa.BigInteger(),
    "real": sa.Double(),
    "bytes": sa.LargeBinary(),
}

metadata: Final = sa.MetaData()


def _table(table: Table) -> sa.Table:
    columns = [
        # A number that is none is stored as NULL.
        sa.Column(column.name, _TYPES[column.kind], nullable=column.nullable or column.kind == "real")
        for column in table.columns
    ]
    # Rows stand in the order of their key: what is written together lies together, and no second tree is kept for the key.
    return sa.Table(table.name, metadata, *columns, sa.PrimaryKeyConstraint(*table.key), sqlite_with_rowid=False)


SQL_TABLES: Final = MappingProxyType({name: _table(table) for name, table in TABLES.items()})
