"""A certificate authority for one test, with a server and a client that it vouches for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files. ``stranger`` is an authority that vouches for none of them; the client's common name is ``gateway``."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path
    stranger: Path


def certificates(directory: Path) -> Certificates:
    """Make them in ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    made = Certificates(
        *(directory / name for name in ("ca.pem", "server.pem", "server.key", "client.pem", "client.key", "stranger.pem"))
    )
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(made.ca))
    trustme.CA().cert_pem.write_to_path(str(made.stranger))
    server = authority.issue_cert("localhost", "127.0.0.1")
    client = authority.issue_cert("gateway.example", common_name="gateway")
    for issued, cert, key in ((server, made.server_cert, made.server_key), (client, made.client_cert, made.client_key)):
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(str(cert), append=number > 0)
        issued.private_key_pem.write_to_path(str(key))
        key.chmod(0o600)
    return made
