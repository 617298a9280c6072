"""Threads that talk to brokers for the master: a broker that is down holds up nobody else."""
