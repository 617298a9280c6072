"""Events on the wire: schemas, frames, identity, topics, commands. Imported by all, imports none."""
