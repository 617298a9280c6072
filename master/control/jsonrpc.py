"""Reading and writing JSON-RPC 2.0 messages (https://www.jsonrpc.org/specification). Batches are not taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from schemas import rpc
from schemas.errors import IoTCloudError

T = TypeVar("T")


class RpcFailure(IoTCloudError):
    """A call that is answered with an error, or was. ``code`` is one of those in `schemas.rpc`."""

    def __init__(self, code: int, message: str, *, remedy: str = "", id: int | str | None = None) -> None:  # noqa: A002
        super().__init__(message, remedy=remedy)
        self.code = code
        self.id = id


@dataclass(frozen=True, slots=True)
class Call:
    """A request; a notification has no ``id`` and gets no answer."""

    method: str
    params: msgspec.Raw
    id: int | str | None
    notification: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """A response to a call of ours."""

    id: int | str | None
    result: msgspec.Raw
    error: rpc.RpcError | None


class _Message(msgspec.Struct):
    jsonrpc: str = ""
    id: int | str | msgspec.UnsetType | None = msgspec.UNSET
    method: str = ""
    params: msgspec.Raw = msgspec.Raw(b"{}")
    result: msgspec.Raw = msgspec.Raw(b"")
    error: rpc.RpcError | None = None


def read(text: str | bytes) -> Call | Answer:
    """Raises `RpcFailure` with `rpc.PARSE_ERROR` or `rpc.INVALID_REQUEST`."""
    try:
        message = msgspec.json.decode(text, type=_Message)
    except msgspec.ValidationError as error:
        raise RpcFailure(rpc.INVALID_REQUEST, f"not a JSON-RPC 2.0 message: {error}") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise RpcFailure(rpc.PARSE_ERROR, f"not JSON: {error}") from None
    notification = isinstance(message.id, msgspec.UnsetType)
    id = None if isinstance(message.id, msgspec.UnsetType) else message.id  # noqa: A001
    if message.jsonrpc != "2.0":
        raise RpcFailure(rpc.INVALID_REQUEST, 'not a JSON-RPC 2.0 message: "jsonrpc" is not "2.0"', id=id)
    if message.method:
        return Call(message.method, message.params, id, notification)
    if message.error is None and not bytes(message.result):
        raise RpcFailure(rpc.INVALID_REQUEST, "neither a request nor a response", id=id)
    return Answer(id, message.result, message.error)


def parameters(call: Call, kind: type[T]) -> T:
    """The parameters of a call, by name. Raises `RpcFailure` with `rpc.INVALID_PARAMS`."""
    try:
        return msgspec.json.decode(call.params, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise RpcFailure(rpc.INVALID_PARAMS, f"{call.method}: {error}", id=call.id) from None


def request(method: str, params: Any, id: int | None) -> str:  # noqa: A002
    """The text of a call; a notification without ``id``."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
    if id is not None:
        message["id"] = id
    return msgspec.json.encode(message).decode()


def success(id: int | str | None, result: Any) -> str:  # noqa: A002
    return msgspec.json.encode({"jsonrpc": "2.0", "id": id, "result": result}).decode()


def failure(error: RpcFailure) -> str:
    body = rpc.RpcError(error.code, error.message, error.remedy)
    return msgspec.json.encode({"jsonrpc": "2.0", "id": error.id, "error": body}).decode()
