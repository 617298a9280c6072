"""What gateways have reported of their own lives. The newest are kept."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, delete, func, select

from master.store.tables import reports
from master.views import Report
from schemas.rpc import Report as Reported

#: Reports kept for each gateway.
KEPT: Final = 1_000


def append(connection: Connection, report: Reported, *, time: int) -> None:
    row = {
        "gateway": report.gateway,
        "application": report.application,
        "kind": report.kind,
        "detail": report.detail,
        "time": report.time,
        "recorded_time": time,
    }
    connection.execute(reports.insert(), row)
    mine = reports.c.gateway == report.gateway
    beyond = select(reports.c.number).where(mine).order_by(reports.c.number.desc()).offset(KEPT).limit(1).scalar_subquery()
    connection.execute(delete(reports).where(mine, reports.c.number <= func.coalesce(beyond, -1)))


def newest(connection: Connection, gateway: str, *, limit: int) -> list[Report]:
    rows = connection.execute(select(reports).where(reports.c.gateway == gateway).order_by(reports.c.number.desc()).limit(limit))
    return [Report(row.number, row.gateway, row.application, row.kind, row.detail, row.time, row.recorded_time) for row in rows]
