"""Rules of a TOML file: what is taken, and what is refused with the place and the remedy."""

from __future__ import annotations

import tomllib

import pytest

from schemas.errors import ConfigurationError
from schemas.registry import SHIPPED, shipped
from transforms.rules import Rule, load_rules
from transforms.windows import WindowSpec

WINDOWS = (WindowSpec("five_minutes", 300_000_000, 300_000_000), WindowSpec("half_hour", 1_800_000_000, 300_000_000))
SCHEMAS = [shipped(name) for name in SHIPPED]


def load(text: str) -> tuple[Rule, ...]:
    return load_rules(tomllib.loads(text).get("rules"), origin="p.toml", windows=WINDOWS, schemas=SCHEMAS)


def test_a_rule_on_windows_has_all_it_says() -> None:
    (rule,) = load(
        """
        [rules.fan]
        on = "windows"
        window = "five_minutes"
        channel = "humidity"
        device = "mote-*"
        when = "mean > 70 AND count >= 3"
        until = "mean < 65"
        for = "10m"
        limit = "2/1h"
        alert = true
        command = { gateway = "g1", device = "fan-{device}", name = "on", args = { level = "{mean}" }, deadline = "1m" }
        otherwise = { gateway = "g1", device = "fan-{device}", name = "off" }
        """
    )
    assert rule.window == WINDOWS[0]
    assert (rule.hold, rule.limit and (rule.limit.count, rule.limit.per)) == (600_000_000, (2, 3_600_000_000))
    assert rule.command is not None
    assert (rule.command.device, rule.command.deadline) == ("fan-{device}", 60)


def test_without_until_a_rule_ends_when_its_condition_does() -> None:
    (rule,) = load('[rules.r]\non = "events"\nwhen = "value > 7"\nalert = true')
    assert rule.until == "NOT (value > 7)"


def test_no_rules_are_no_rules() -> None:
    assert load("") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('on = "windows"\nwindow = "five_minutes"\nwhen = "meen > 7"\nalert = true', "rules.r: when: .*did you mean 'mean'"),
        ('on = "windows"\nwindow = "five_minutes"\nwhen = "mean >"\nalert = true', "rules.r: when: .*no condition"),
        ('on = "windows"\nwindow = "five_minutes"\nwhen = "mean + 1"\nalert = true', "gives Float64, not yes or no"),
        ('on = "windows"\nwindow = "five_minute"\nwhen = "mean > 1"\nalert = true', "no window 'five_minute'.*half_hour"),
        ('on = "windows"\nwhen = "mean > 1"\nalert = true', "needs the name of a window"),
        ('on = "events"\nwhen = "value > AVG(value)"\nalert = true', "more than one row"),
        ('on = "events"\nwhen = "LAG(value) OVER (ORDER BY seq) > 1"\nalert = true', "more than one row"),
        ('on = "events"\nwhen = "COUNT(*) > 2"\nalert = true', "more than one row"),
        ('on = "events"\nwhen = "channel = \'a.sum(\' AND speed > 2"\nalert = true', "no column 'speed'"),
        ('on = "events"\nwhen = "value > 1"', "does nothing"),
        ('on = "events"\nalert = true', "either 'when' or 'absent'"),
        ('on = "events"\nwhen = "value > 1"\nabsent = "2m"\nalert = true', "either 'when' or 'absent'"),
        ('on = "events"\nabsent = "2m"\nlimit = "1/10s"\nalert = true', "'absent' goes without"),
        ('on = "events"\nwhen = "value > 1"\nlimit = "often"\nalert = true', "is no limit"),
        ('on = "events"\nwhen = "value > 1"\nlimit = "0/1s"\nalert = true', "is no limit"),
        ('on = "events"\nwhen = "value > 1"\ntrigger = "each"\nuntil = "value < 1"\nalert = true', "goes without"),
        ('on = "events"\nwhen = "value > 1"\nalrt = true', "p.toml: rules.r.alrt: unknown field; did you mean 'alert'"),
        ('on = "events"\nwhen = "value > 1"\nfor = "soon"\nalert = true', "rules.r.for: 'soon' is not a duration"),
        (
            'on = "events"\nwhen = "value > 1"\ncommand = { gateway = "g", device = "{devise}", name = "x" }',
            "devise} is no column",
        ),
        (
            'on = "events"\nwhen = "value > 1"\ncommand = { gateway = "g", device = "d", name = "x", args = { level = [inf] } }',
            "command: args hold a number that JSON cannot write",
        ),
        ('on = "events"\nwhen = "value > 1"\ncommand = { gateway = "a b", device = "d", name = "x" }', "cannot name a gateway"),
        (
            'on = "windows"\nwindow = "half_hour"\nwhen = "mean > 1"\ncommand={gateway="{gateway}",device="d",name="x"}',
            "gateway} is no column of the cause.*window_start",
        ),
    ],
)
def test_what_cannot_work_is_refused_where_it_is_read(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        load(f"[rules.r]\n{text}")
    assert str(refused.value).startswith("p.toml")
