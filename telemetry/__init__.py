"""Logs, metrics and health for every process."""
