"""The REST interface: routes over the registry, commands, and the stream of changes."""
