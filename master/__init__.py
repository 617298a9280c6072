"""The master: what there is (gateways, applications, devices, channels, schemas), and commands to it.

`master.client` is for programs that use a master and imports nothing of the server.
"""
