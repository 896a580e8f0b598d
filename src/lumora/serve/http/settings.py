"""What a server is asked to keep to."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from lumora.errors import ConfigError

FORMATS = ("jpeg", "png", "webp")
_DAY = 24 * 60 * 60


@dataclass(frozen=True)
class Settings:
    """Where a server listens, whom it answers, and the limits that it keeps."""

    host: str = "127.0.0.1"
    port: int = 8000
    max_batch: int = 32
    """The most pictures in a batch."""
    max_wait: float = 0.005
    """Seconds that a picture waits for others to come, where others are to be expected."""
    queue: int = 256
    """The most pictures that are accepted and not answered yet; more are told to come again."""
    deadline: float = 30.0
    """Seconds until a request is given up; it may ask for less itself."""
    max_body: int = 20_000_000
    """Bytes of a request's body."""
    max_pixels: int = 50_000_000
    """Pixels of a picture; larger ones are not decoded."""
    formats: tuple[str, ...] = FORMATS
    """Kinds of pictures that are decoded."""
    decoders: int = 2
    """Processes that decode pictures."""
    decode_time: float = 10.0
    """Seconds for decoding one picture; a process that takes longer is ended."""
    drain_delay: float = 0.5
    """Seconds for which requests are still accepted after the server was told to end."""
    tokens: tuple[str, ...] = ()
    """Who brings one of these is answered; with none, everyone on this machine."""
    admin_tokens: tuple[str, ...] = ()
    """Who brings one of these may also add and remove bundles."""
    hub: bool = False
    """Whether bundles may be added from the Hub."""

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {value:g}; it must be {words}"
            for name, value, words in (
                ("max_batch", self.max_batch, "at least 1"),
                ("queue", self.queue, "at least 1"),
                ("decoders", self.decoders, "at least 1"),
                ("max_body", self.max_body, "at least 1"),
                ("max_pixels", self.max_pixels, "at least 1"),
            )
            if value < 1
        ]
        problems += [
            f"{name} is {value:g}; it must be more than 0 seconds and at most a day"
            for name, value in (("deadline", self.deadline), ("decode_time", self.decode_time))
            if not 0 < value <= _DAY  # nor no number
        ]
        problems += [
            f"{name} is {value:g}; it must be from 0 seconds to a day"
            for name, value in (("max_wait", self.max_wait), ("drain_delay", self.drain_delay))
            if not 0 <= value <= _DAY
        ]
        if unknown := [name for name in self.formats if name not in FORMATS]:
            problems.append(f"formats has {', '.join(unknown)}; choose among {', '.join(FORMATS)}")
        if any(len(token) < 8 or not token.isascii() for token in (*self.tokens, *self.admin_tokens)):
            problems.append("a token has fewer than 8 characters, or others than ASCII; nobody should guess it")
        if not is_loopback(self.host) and not self.tokens and not self.admin_tokens:
            problems.append(
                f"{self.host} can be reached from other machines, and there is no token: everyone could use the "
                "server. Give a file with tokens (--token-file), or listen on 127.0.0.1 behind a proxy that asks who "
                "it is"
            )
        if problems:
            raise ConfigError("The server cannot be started: " + "; ".join(problems) + ".")


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
