"""Drivers that come with the agent: a folder each, which declares `driver`."""
