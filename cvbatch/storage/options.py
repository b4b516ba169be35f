"""How to reach an object store: everything but credentials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlsplit

import yaml

from cvbatch.errors import JobError


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """What is not said by the location itself.

    There is no place for a secret: credentials are found by each machine for itself, in its environment, the shared
    files of a profile, a web identity or the metadata of the instance.

    Raises:
        JobError: If the endpoint is no plain http(s) URL.
    """

    endpoint_url: str | None = None
    """Where the service is, if it is not the provider's own; by default as the environment or the profile says."""
    region: str | None = None
    """By default as the environment or the profile says, or that of the bucket."""
    path_style: bool | None = None
    """Whether the bucket stands in the path; by default only with an endpoint that is not Amazon's."""
    anonymous: bool = False
    """Ask without credentials."""
    profile: str | None = None
    """Section of the shared AWS files on each machine."""

    def __post_init__(self) -> None:
        if self.endpoint_url is None:
            return
        parts = urlsplit(self.endpoint_url)
        if "@" in parts.netloc:
            raise JobError("endpoint_url: expected no credentials in it; they belong in the environment or a profile")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise JobError("endpoint_url: expected a URL such as https://minio.example.org:9000")

    @staticmethod
    def from_mapping(values: Mapping[str, Any]) -> StorageOptions:
        """Make options of plain values.

        Raises:
            JobError: If a name or a kind of value is not known.
        """
        for name, value in values.items():
            if name not in OPTION_NAMES:
                raise JobError(f"storage: expected one of {', '.join(OPTION_NAMES)}, got {name!r}")
            truth = name in ("path_style", "anonymous")
            if not isinstance(value, bool if truth else str) and not (value is None and name != "anonymous"):
                raise JobError(f"storage: expected {'true or false' if truth else 'text'} for {name}")
        return StorageOptions(**values)

    @staticmethod
    def parse_assignments(texts: Sequence[str]) -> StorageOptions:
        """Make options of `KEY=VALUE` texts.

        Raises:
            JobError: If one is not of this form, or not known.
        """
        values: dict[str, Any] = {}
        for text in texts:
            name, equals, value = text.partition("=")
            if not equals:
                raise JobError("--storage: expected KEY=VALUE, such as endpoint_url=http://127.0.0.1:9000")
            try:
                values[name] = yaml.safe_load(value) if name in ("path_style", "anonymous") else value
            except yaml.YAMLError:
                raise JobError(f"--storage {name}: expected true or false") from None
        return StorageOptions.from_mapping(values)


OPTION_NAMES = tuple(each.name for each in fields(StorageOptions))
