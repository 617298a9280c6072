"""The gateway agent: drivers in processes of their own, an outbox on disk, publishers, commands, a link to the master."""
