"""The commands of the agent's command line: a module each, with ``add_arguments`` and ``run``."""
