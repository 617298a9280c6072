"""What the status codes of gRPC mean for who uses the broker.

Source: https://cloud.google.com/pubsub/docs/reference/error-codes.
"""

from __future__ import annotations

from typing import Any, Final

import grpc

from brokers.errors import BrokerRefused, BrokerUnavailable

_REMEDIES: Final = {
    grpc.StatusCode.UNAUTHENTICATED: "give a valid service account with ?credentials=file:PATH, or run"
    " 'gcloud auth application-default login'",
    grpc.StatusCode.PERMISSION_DENIED: "grant the account roles/pubsub.publisher and roles/pubsub.subscriber, and"
    " roles/pubsub.editor to make topics and subscriptions; see that the project is spelt right",
    grpc.StatusCode.NOT_FOUND: "make the topic or subscription first, or leave out create=false",
    grpc.StatusCode.INVALID_ARGUMENT: "see the quotas and limits of Pub/Sub",
    grpc.StatusCode.FAILED_PRECONDITION: "see what 'gcloud pubsub subscriptions describe' says",
    grpc.StatusCode.UNIMPLEMENTED: "see that the address is that of a Pub/Sub server",
}


def code_of(error: BaseException) -> Any:
    """The status code of a failed call: CANCELLED when it was given up here."""
    return error.code() if isinstance(error, grpc.RpcError) else grpc.StatusCode.CANCELLED


def describe(error: BaseException, *, url: str, what: str) -> BrokerUnavailable | BrokerRefused:
    """The broker error for a failed call. ``what`` was being worked on: a topic, usually."""
    code = code_of(error)
    where = f"{url}: {what}"
    if code is grpc.StatusCode.CANCELLED:
        return BrokerUnavailable(f"{where}: closed while waiting for an answer", remedy="open it again")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return BrokerUnavailable(f"{where}: no answer before the deadline", remedy="see that the server can be reached")
    details = str(error.details() if isinstance(error, grpc.RpcError) else error)
    message = f"{where}: {code.name}: {details}"
    if code in _REMEDIES:
        return BrokerRefused(message, remedy=_REMEDIES[code])
    return BrokerUnavailable(message, remedy=_remedy(code, details.lower()))


def _remedy(code: Any, details: str) -> str:
    if "certificate" in details or "handshake" in details:
        return "see that ?ca=FILE names the authority of the server's certificate"
    if "metadata from plugin" in details:
        return "see that the credentials are valid and that their token can be renewed"
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return "publish less, or ask for a larger quota"
    return "see that the server runs and can be reached"
