"""For those who write drivers: a bench that runs one as the agent does, and the rules that every driver keeps.

A driver joins the rules by a subclass of `DriverRules` in its tests::

    class TestThermometer(DriverRules):
        driver = "my_package.thermometer:Thermometer"

        def settings(self, folder: Path) -> dict[str, object]:
            return {"path": "/sys/class/thermal/thermal_zone0/temp"}
"""

from gateway_agent.testing.bench import Bench
from gateway_agent.testing.rules import DriverRules

__all__ = ["Bench", "DriverRules"]
