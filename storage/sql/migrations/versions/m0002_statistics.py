"""Columns for what a window may be asked for beyond count, sum, mean, min and max; and a table of sessions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TIME = sa.Text().with_variant(TIMESTAMP(timezone=True), "postgresql")
_ALWAYS = ("count", "sum", "mean", "min", "max")
_ON_DEMAND = ("stddev", "first", "last", "p50", "p90", "p95", "p99")


def _micros(column: str) -> str:
    """SQL for the µs since 1970 of a time's text."""
    return f"CAST(strftime('%s', substr({column}, 1, 19)) AS INTEGER) * 1000000 + CAST(substr({column}, 21, 6) AS INTEGER)"


def upgrade() -> None:
    for name in _ON_DEMAND:
        op.add_column("aggregates", sa.Column(name, sa.Double()))
    op.add_column("aggregates", sa.Column("others", sa.Text()))
    op.create_table(
        "sessions",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("period_start", _TIME, nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("window_start", _TIME, nullable=False),
        sa.Column("window_end", _TIME, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Double()) for name in (*_ALWAYS[1:], *_ON_DEMAND)),
        sa.Column("others", sa.Text()),
        sa.Column("pane", sa.Text(), nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", "period_start", "device", "channel", "window_start"),
        sqlite_with_rowid=False,
    )
    if op.get_bind().dialect.name == "sqlite":
        numbers = [*_ALWAYS, *_ON_DEMAND, "others", "pane"]
        op.execute("DROP VIEW aggregates_micros")
        _create_view("aggregates", ["device", "channel", *numbers], "window_start", "window_end", "updated_at")
        times = ("period_start", "window_start", "window_end", "updated_at")
        _create_view("sessions", ["name", "device", "channel", *numbers], *times)


def _create_view(table: str, plain: list[str], *times: str) -> None:
    """A view of ``table`` with its times as µs since 1970."""
    columns = [*(f"{_micros(time)} AS {time}" for time in times), *plain]
    op.execute(f"CREATE VIEW {table}_micros AS SELECT {', '.join(columns)} FROM {table}")  # noqa: S608  (names of ours)
