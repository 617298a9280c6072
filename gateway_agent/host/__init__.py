"""Where drivers run: one child process per application, supervised by the agent."""
