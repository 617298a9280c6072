"""Conditions on the tables of the registry that several queries share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, and_, select

from master.selection import Selection
from master.store import tables as t

#: States of an application in which nothing can be expected of it.
_DOWN: Final = ("failed", "stopped")


def chosen_gateways(chosen: Selection) -> list[ColumnElement[bool]]:
    """Conditions on the table of gateways."""
    conditions = [*wanted(t.gateways.c.site, chosen.site), *wanted(t.gateways.c.gateway, chosen.gateway)]
    for key, value in chosen.label:
        labels = t.gateway_labels.alias()
        conditions.append(
            select(labels.c.gateway)
            .where(labels.c.gateway == t.gateways.c.gateway, labels.c.key == key, labels.c.value == value)
            .exists()
        )
    return conditions


def wanted(column: ColumnElement[str], values: Sequence[str]) -> list[ColumnElement[bool]]:
    return [column.in_(values)] if values else []


def available() -> ColumnElement[bool]:
    """Whether an application, and with it its channels and devices, can be reached."""
    return and_(t.gateways.c.state != "lost", t.applications.c.state.not_in(_DOWN)).label("available")
