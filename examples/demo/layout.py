"""Where a run of the demonstration leaves what it makes, and the configuration files in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from settings import expand

HERE = Path(__file__).parent
RECORDING = HERE / "data" / "wsn" / "single-hop.csv"
CAPTURE = HERE / "data" / "serial" / "pygpsdata-MIXED.log"


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below one directory."""

    out: Path

    @property
    def database(self) -> Path:
        return self.out / "results.sqlite"

    @property
    def reprocessed(self) -> Path:
        return self.out / "reprocessed.sqlite"

    @property
    def archive(self) -> Path:
        return self.out / "archive"

    @property
    def broker(self) -> Path:
        return self.out / "broker"

    @property
    def logs(self) -> Path:
        return self.out / "logs"

    @property
    def master(self) -> Path:
        return self.out / "master"

    @property
    def master_url(self) -> Path:
        return self.out / "master.url"

    @property
    def token(self) -> Path:
        return self.master / "token"

    @property
    def gateway(self) -> Path:
        return self.out / "gateway.toml"

    @property
    def outbox(self) -> Path:
        return self.out / "gateway" / "outbox.sqlite"

    @property
    def gateway_url(self) -> Path:
        return self.out / "gateway.url"

    @property
    def pipeline(self) -> Path:
        return self.out / "pipeline.toml"

    @property
    def pipeline_state(self) -> Path:
        return self.out / "pipeline"

    @property
    def pipeline_status(self) -> Path:
        return self.out / "pipeline.json"

    @property
    def verified(self) -> Path:
        return self.out / "verified.json"

    @property
    def fired(self) -> Path:
        return self.out / "fired.jsonl"


def write_configuration(layout: Layout, values: Mapping[str, str]) -> None:
    """Fill in the variables of both files and leave them in the layout. Raises `ConfigurationError` for one without a value."""
    for name, target in (("gateway.toml", layout.gateway), ("pipeline.toml", layout.pipeline)):
        text = (HERE / name).read_text(encoding="utf-8")
        target.write_text(expand(text, values, origin=name), encoding="utf-8")
