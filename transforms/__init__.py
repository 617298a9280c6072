"""Beam transforms and the column functions they are made of. No input or output here."""
