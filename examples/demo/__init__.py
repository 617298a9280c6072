"""The demonstration: a master, a gateway and the real-time pipeline on one machine, with recorded input."""
