"""Rules: a condition on events or on windows, and what to do when it begins and ceases to hold. See README.md here."""

from transforms.rules.fired import Fired
from transforms.rules.memory import RuleMemory
from transforms.rules.spec import Rule, load_rules
from transforms.rules.stages import EventRules, WindowRules

__all__ = ["EventRules", "Fired", "Rule", "RuleMemory", "WindowRules", "load_rules"]
