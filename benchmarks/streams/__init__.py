"""What `benchmarks.pipeline` lets run: the same events through a classic Beam pipeline and through ours."""
