"""Other systems, measured beside ours, each run by a Python of its own."""
