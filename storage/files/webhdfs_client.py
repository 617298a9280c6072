"""The client of the package ``hdfs`` for a URL: who asks, how, and for how long."""

from __future__ import annotations

from typing import Any, Literal

import requests
from hdfs.client import InsecureClient

from schemas.errors import ConfigurationError
from settings import Bytes, Seconds
from storage.files.journal import FilesOptions


class WebHdfsOptions(FilesOptions, frozen=True):
    """What an ``hdfs:`` URL may say after its ``?``."""

    #: Whose files they become; who runs this unless given. Kerberos says by itself who asks.
    user: str = ""
    #: Copies of every block, and bytes of a block; what the cluster has set unless given.
    replication: int | None = None
    blocksize: Bytes | None = None
    #: For one request to connect or to be answered further.
    timeout: Seconds = Seconds(20.0)
    #: How long one operation is tried again before the store counts as unavailable.
    patience: Seconds = Seconds(60.0)
    #: How long a job that changes events may be out of touch before another one takes its place.
    lease: Seconds = Seconds(60.0)
    auth: Literal["simple", "kerberos"] = "simple"
    mutual_auth: Literal["REQUIRED", "OPTIONAL", "DISABLED"] = "OPTIONAL"
    #: Certificates of the authorities to trust with TLS; those of the system unless given.
    ca: str = ""


def connect(urls: list[str], options: WebHdfsOptions) -> Any:
    """A client that asks one NameNode after another. Connects to nothing. Raises `ConfigurationError`."""
    session = requests.Session()
    if options.ca:
        session.verify = options.ca
    settings: dict[str, Any] = {"session": session, "timeout": (min(10.0, options.timeout), float(options.timeout))}
    if options.auth == "simple":
        return InsecureClient(";".join(urls), user=options.user or None, **settings)
    try:
        from hdfs.ext.kerberos import KerberosClient
    except ImportError as error:
        raise ConfigurationError(
            "auth=kerberos needs the library requests-kerberos", remedy="pip install 'hdfs[kerberos]'"
        ) from error
    return KerberosClient(";".join(urls), mutual_auth=options.mutual_auth, **settings)
