"""Jobs: sources, sinks and transforms put together, and how they are run."""
