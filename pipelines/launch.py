"""From options to a running job: the plan, showing it, carrying it out."""

from __future__ import annotations

import json
import math
import os
import sys
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

import apache_beam as beam

from brokers import connect
from brokers.contract import require_log
from pipelines.closing import let_go
from pipelines.command_brokers import FindBroker, MasterKnows, OneBroker
from pipelines.commands import CommandSettings, close_commands, open_commands
from pipelines.config import PipelineConfig, load_config, load_schemas
from pipelines.corrections import Corrector, Recomputation
from pipelines.options import Options
from pipelines.realtime import Realtime
from pipelines.resume import resume
from pipelines.runners.choice import check_streaming, ready_runner
from pipelines.runners.prism import find_prism
from pipelines.running import quiet_workers, run_to_end, submit
from pipelines.session import Session, close_session, open_session
from pipelines.signals import Signals
from pipelines.sinks import check_sinks, close_sinks, with_sink, write_rows
from pipelines.sources.discovery import Source
from pipelines.sources.log import ReadSettings
from pipelines.sources.numbering import Origins
from pipelines.sources.relayed import Relays, relayed
from pipelines.sources.selection import select
from pipelines.state import JobState, close_state, open_state
from pipelines.status import Reporter, Status
from pipelines.whole_file import write_whole
from schemas.errors import IoTCloudError
from schemas.registry import EventSchema, Schemas
from telemetry.http import StatusServer
from telemetry.logs import logger
from transforms.rules import Rule, load_rules
from transforms.windows import WindowSpec

#: How long windows may be computed again once a job was told to stop; what is left is listed for its next life.
_CORRECTIONS_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Plan:
    """A job that has been checked as far as it can be without running it."""

    options: Options
    config: PipelineConfig
    #: The logs that are read, in the place of queues those that `relays` fill.
    sources: tuple[Source, ...]
    #: What the partitions of each are numbered from.
    origins: Origins
    #: Queues, each with the log it is moved into.
    moved: tuple[tuple[Source, str], ...]
    #: Where the topics' gateways are: the broker for commands that nothing else says.
    broker: str
    schemas: tuple[EventSchema, ...]
    windows: tuple[WindowSpec, ...]
    sinks: tuple[str, ...]
    rules: tuple[Rule, ...]


def plan(options: Options) -> Plan:
    """Raises `IoTCloudError` for what cannot be run, or a master that cannot be asked."""
    check_streaming(options.runner)
    if options.runner == "PrismRunner":
        find_prism(options.prism_location)
    config = load_config(options.pipeline)
    sources, schemas = options.sources, load_schemas(config, options.pipeline)
    if options.master:
        sources, more = select(options.master, options.select, options.token, state=options.state)
        schemas = tuple(Schemas([*schemas, *more]))
    found = relayed(sources, relay=options.relay, state=options.state)
    origins = Origins(options.state)
    logs = tuple(
        Source(source.url, topics, base)
        for source in found.sources
        for base, topics in origins.bases(source.url, source.topics).items()
    )
    windows = config.window_specs()
    rules = load_rules(config.rules, origin=str(options.pipeline), windows=windows, schemas=schemas)
    return Plan(
        options,
        config,
        logs,
        origins,
        found.moved,
        sources[0].url,
        schemas,
        windows,
        (*options.sinks, *config.sinks),
        rules,
    )


def show(plan: Plan) -> int:
    """Print the plan, with what can be reached now. Returns 0 when all of it can, else 1."""
    lines = [f"job        {plan.options.job} on {plan.options.runner}"]
    wrong = 0
    for source in plan.sources:
        for topic in source.topics:
            found, failed = _look_at(source, topic)
            wrong += failed
            lines.append(f"topic      {topic} at {connect(source.url).url}: {found}")
    lines += [f"relay      {connect(source.url).url} into {connect(target).url}" for source, target in plan.moved]
    lines += [f"schema     {schema.name} {schema.fingerprint.hex()}" for schema in plan.schemas]
    for window in plan.windows:
        step = "" if window.every == window.size else f" every {window.every / 1e6:g} s"
        step = f" at most, sessions with gaps of {window.gap / 1e6:g} s" if window.gap else step
        lateness = f"late events for {window.allowed_lateness / 1e6:g} s"
        lines.append(f"window     {window.name}: {window.size / 1e6:g} s{step}, {lateness}")
    lines += [f"rule       {rule.name} on {rule.window.name if rule.window else 'events'}" for rule in plan.rules]
    for url, problem in check_sinks(plan.sinks):
        wrong += bool(problem)
        lines.append(f"sink       {url}: {problem or 'can be written'}")
    sys.stdout.write("\n".join(lines) + "\n")
    close_sinks(plan.sinks)
    return 1 if wrong else 0


def _look_at(source: Source, topic: str) -> tuple[str, bool]:
    try:
        reader = require_log(connect(source.url))
        try:
            partitions = reader.partitions(topic)
            records = sum(reader.end_offset(topic, number) - reader.begin_offset(topic, number) for number in partitions)
        finally:
            reader.close()
    except IoTCloudError as error:
        return str(error), True
    return (f"{len(partitions)} partitions, {records} records" if partitions else "not there yet, will be waited for"), False


def run(plan: Plan) -> int:
    """Run the job to its end. Returns 0; raises `IoTCloudError` when it fails."""
    options = plan.options
    job = f"{options.job}-{uuid.uuid4()}"
    signals = Signals()
    with ExitStack() as stack:
        stack.enter_context(signals.installed())
        stack.enter_context(quiet_workers())
        state = None
        if options.state is not None:
            state = open_state(options.state)
            stack.callback(close_state, options.state)
            plan.origins.store()
        relays = Relays(plan.moved, group=options.group)
        stack.callback(let_go, "relays", relays.close, signals)
        relays.start()
        session = open_session(job, credit=options.credit)
        stack.callback(let_go, "readers", partial(close_session, job), signals)
        # Where one of them is away when the job starts, windows wait for what it has, as they do when it goes away later.
        session.clocks.expect(plan.sources)
        stack.callback(let_go, "sinks", partial(close_sinks, plan.sinks), signals)
        status = Status(session, relays, job=options.job, runner=options.runner)
        runner = stack.enter_context(ready_runner(options.runner, options.beam, prism_location=options.prism_location))
        server = StatusServer(
            status.registry(), ready=lambda: status.phase == "running", status=status.document, port=options.metrics_port
        )
        stack.callback(server.close)
        _tell(options, server.port)
        realtime = _realtime(plan, job, state)
        pipeline = beam.Pipeline(options=runner.options)
        if options.job == "archive":
            realtime.build_archive(pipeline)
        else:
            realtime.build(pipeline)
            if realtime.commands is not None:
                # Takes up what an earlier life of the job left, and works off what is waiting when it ends.
                open_commands(realtime.commands)
                stack.callback(let_go, "commands", partial(close_commands, realtime.commands), signals)
        corrector = _corrector(plan, realtime, state, session)
        if options.until_end:
            relays.drain(signals)
        result = submit(pipeline, runner.process, signals)
        reporter = Reporter(status)
        stack.callback(reporter.close)
        run_to_end(
            result,
            session,
            relays,
            status,
            signals,
            runner=runner.process,
            close_on_drain=options.close_on_drain or options.until_end,
        )
        if corrector is not None:
            let_go("corrections", corrector.close, signals, within=_CORRECTIONS_SECONDS if signals.received else math.inf)
    return 0


def _realtime(plan: Plan, job: str, state: JobState | None) -> Realtime:
    source = plan.config.source
    begin = resume(state, plan.windows)
    read = ReadSettings(
        job,
        disorder=round(source.disorder * 1e6),
        future_bound=round(source.future * 1e6),
        floor=begin.resumption.floor,
        starts=begin.starts,
        watermarks=begin.watermarks,
        until_end=plan.options.until_end,
        poll=round(source.poll * 1e6),
        block_bytes=max(1, source.block_bytes),
        group=plan.options.group,
    )
    return Realtime(
        job,
        plan.sources,
        read,
        plan.schemas,
        plan.windows,
        plan.sinks,
        begin,
        state=plan.options.state,
        rules=plan.rules,
        commands=_commands(plan, job) if plan.rules else None,
        archive=plan.options.archive,
        shards=plan.config.shards,
    )


def _commands(plan: Plan, job: str) -> CommandSettings:
    """Commands go where the file says, or the master, or where the events come from."""
    find: FindBroker = OneBroker(plan.config.commands.broker or plan.broker)
    if plan.options.master and not plan.config.commands.broker:
        find = MasterKnows(plan.options.master, plan.options.token)
    return CommandSettings(job, find, sinks=plan.sinks, state=plan.options.state)


def _corrector(plan: Plan, realtime: Realtime, state: JobState | None, session: Session) -> Corrector | None:
    if state is None or not plan.windows or not plan.sinks:
        return None
    recomputation = Recomputation(
        plan.sources, plan.schemas, plan.windows, future_bound=realtime.read.future_bound, clock=realtime.read.clock
    )

    return Corrector(state, recomputation, session, partial(write_rows, [with_sink(url) for url in plan.sinks]))


def _tell(options: Options, port: int) -> None:
    logger("pipeline").info("status at", url=f"http://127.0.0.1:{port}/api/v1/status")
    if options.status_file is not None:
        write_whole(options.status_file, json.dumps({"pid": os.getpid(), "port": port}).encode() + b"\n")
