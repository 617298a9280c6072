"""What the errors of kafka-python mean for who uses the broker."""

from __future__ import annotations

from typing import Final

from kafka import errors  # type: ignore[import-untyped]

from brokers.errors import BrokerRefused, BrokerUnavailable

#: Server's errors after which trying again is no use, with what to do.
_REMEDIES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (errors.SaslAuthenticationFailedError, "check the user, the password and mechanism= in the URL"),
    (errors.UnsupportedSaslMechanismError, "name one the server has: mechanism=plain, scram-sha-256 or scram-sha-512"),
    (errors.AuthorizationError, "give the user the right to do this (kafka-acls.sh)"),
    (errors.InvalidReplicationFactorError, "replication= must not be more than there are brokers in the cluster"),
    (errors.PolicyViolationError, "the cluster has a policy against such a topic; have it made by an administrator"),
    (errors.InvalidTopicError, "choose another name: to Kafka '.' and '_' are the same in names of topics"),
    (errors.UnsupportedCodecError, "install the library of this compression: lz4, python-snappy or zstandard"),
    (errors.UnsupportedVersionError, "the broker must be Kafka 2.1 or later"),
    (errors.MessageSizeTooLargeError, "raise max.message.bytes of the topic (kafka-configs.sh), or send less in a message"),
    (errors.InvalidRecordError, "see the log of the broker: the topic has rules of its own for records"),
    (errors.UnsupportedCompressionTypeError, "choose another compression= in the URL"),
)
_CERTIFICATE: Final = "give the authority of the server's certificate as ca=, and cert= and key= where the server asks for them"


class Trouble(Exception):
    """A request that got no answer, or an answer that says no. ``cause`` is the client library's error."""

    def __init__(self, cause: BaseException, detail: str | None = None) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.detail = detail or str(next(iter(cause.args), "")) or type(cause).__name__

    @property
    def answered(self) -> bool:
        """Whether a server said so, and not a connection that failed."""
        return isinstance(self.cause, errors.BrokerResponseError) and not isinstance(self.cause, errors.RequestTimedOutError)

    @property
    def final(self) -> bool:
        """Whether trying again is no use."""
        if "certificate" in self.detail.lower():
            return True
        return bool(_remedy(self.cause)) or (self.answered and not getattr(self.cause, "retriable", False))

    def explained(self, url: str, topic: str, hosts: str) -> BrokerUnavailable | BrokerRefused:
        """The error for a caller."""
        message = f"{url}: topic {topic!r}: {self.detail}"
        if "certificate" in self.detail.lower():
            return BrokerRefused(message, remedy=_CERTIFICATE)
        if self.final:
            return BrokerRefused(message, remedy=_remedy(self.cause) or "see the log of the broker")
        return BrokerUnavailable(message, remedy=f"see whether the brokers run and can be reached: {hosts}")


def trouble_of(code: int, text: str | None = None) -> Trouble | None:
    """The trouble that an error code in an answer stands for; None for success."""
    if code == 0:
        return None
    kind = errors.for_code(code)
    name = kind.__name__.removesuffix("Error")
    return Trouble(kind(), f"{name}: {text}" if text else f"{name}: {kind.description}" if kind.description else name)


def closed() -> Trouble:
    """The trouble of a caller whose publisher or reader was closed meanwhile."""
    return Trouble(errors.Cancelled(), "it was closed")


def late(seconds: float) -> Trouble:
    """The trouble of a caller whose deadline has passed."""
    return Trouble(errors.KafkaTimeoutError(), f"no answer within {seconds:.1f} s")


def _remedy(cause: BaseException) -> str:
    return next((remedy for kind, remedy in _REMEDIES if isinstance(cause, kind)), "")
