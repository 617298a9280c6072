"""Round trips of `benchmarks.grid`: gateway → broker → processing → broker → gateway."""
