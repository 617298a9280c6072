"""What WebHDFS says went wrong, as errors of stores."""

from __future__ import annotations

from typing import Final

import requests
import urllib3
from hdfs.util import HdfsError

from storage.errors import StoreFull, StoreRefused, StoreUnavailable


class Transient(Exception):
    """An answer that is not as it should be, though no error."""


#: What the client library lets out: its own error, those of requests, of what it reads from, and of answers of another form.
FAILURES: Final = (HdfsError, requests.RequestException, urllib3.exceptions.HTTPError, KeyError, Transient)
#: A cluster whose DataNodes have no room for a block says the same as one that has none.
_LATER: Final = "do the NameNode and DataNodes with room for a block run, out of safe mode, and can they be reached?"
_REFUSED: Final = {
    "AccessControlException": "give the user the right to it, or name another with ?user=",
    "AuthorizationException": "give the user the right to it, or name another with ?user=",
    "SecurityException": "a cluster with Kerberos needs ?auth=kerberos",
    "IllegalArgumentException": "see the options of the URL",
    "InvalidPathException": "name another directory",
    "ParentNotDirectoryException": "name another directory",
    "UnsupportedOperationException": "name the NameNodes' own WebHDFS ports",
}


def named(error: Exception) -> str:
    """The class of the server's exception; empty where it sent none."""
    return str(getattr(error, "exception", None) or "")


def quota_exceeded(error: Exception) -> bool:
    return named(error).endswith("QuotaExceededException")


def described(url: str, error: Exception) -> StoreFull | StoreRefused | StoreUnavailable | FileNotFoundError:
    """As an error of stores. Only `StoreUnavailable` may pass by itself."""
    name = named(error)
    text = str(error).split("\n", 1)[0] or type(error).__name__
    where = f"{url}: {name + ': ' if name else ''}{text}"
    if name == "FileNotFoundException":
        return FileNotFoundError(where)
    if quota_exceeded(error):
        return StoreFull(where, remedy="raise the quota or free space; a block counts whole while it is written, see ?blocksize=")
    if remedy := _refused(error, name, text):
        return StoreRefused(where, remedy=remedy)
    return StoreUnavailable(where, remedy=_LATER)


def _refused(error: Exception, name: str, text: str) -> str:
    """What to do about an error that stays; empty for others."""
    if text.startswith("Authentication failure"):
        return "is there a valid Kerberos ticket (klist), and ?auth=kerberos?"
    if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in text:
        return "name the authority that signed the servers' certificates with ?ca=FILE"
    return _REFUSED.get(name, "")
