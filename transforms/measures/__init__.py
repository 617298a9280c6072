"""What a window can be asked for beyond count, sum, mean, min and max. Decision 007; README.md here says how to add one."""

from transforms.measures.contract import Aggregate, Measure
from transforms.measures.named import AggregateConfig, measures_of

__all__ = ["Aggregate", "AggregateConfig", "Measure", "measures_of"]
