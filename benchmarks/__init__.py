"""Measurements: one file a question, results with date, machine and ratios in `results/`."""
