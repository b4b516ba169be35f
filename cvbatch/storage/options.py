"""Options to access an object store, without credentials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlsplit

import yaml

from cvbatch.errors import JobError


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """Access options of a location.

    They contain no secret: each machine finds its own credentials in its environment, the shared files of a profile, a
    web identity or the metadata of the instance.

    Raises:
        JobError: If the endpoint is not a plain http(s) URL.
    """

    endpoint_url: str | None = None
    """URL of the service, if it is not the provider's own; by default from the environment or the profile."""
    region: str | None = None
    """By default from the environment or the profile, or the region of the bucket."""
    path_style: bool | None = None
    """Whether URLs have the bucket in the path; by default only for endpoints that are not Amazon's."""
    anonymous: bool = False
    """Whether requests are sent without credentials."""
    profile: str | None = None
    """Section in the shared AWS files of each machine."""

    def __post_init__(self) -> None:
        if self.endpoint_url is None:
            return
        parts = urlsplit(self.endpoint_url)
        if "@" in parts.netloc:
            raise JobError(
                "endpoint_url: expected a URL without credentials; they belong in the environment or a profile"
            )
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise JobError("endpoint_url: expected a URL such as https://minio.example.org:9000")

    @staticmethod
    def from_mapping(values: Mapping[str, Any]) -> StorageOptions:
        """Make options from a mapping.

        Raises:
            JobError: If a name is unknown, or a value has the wrong type.
        """
        for name, value in values.items():
            if name not in OPTION_NAMES:
                raise JobError(f"storage: expected one of {', '.join(OPTION_NAMES)}, got {name!r}")
            is_boolean = name in ("path_style", "anonymous")
            if not isinstance(value, bool if is_boolean else str) and not (value is None and name != "anonymous"):
                raise JobError(f"storage: expected {'true or false' if is_boolean else 'text'} for {name}")
        return StorageOptions(**values)

    @staticmethod
    def parse_assignments(texts: Sequence[str]) -> StorageOptions:
        """Make options from `KEY=VALUE` texts.

        Raises:
            JobError: If a text does not have this form, or an option is unknown or has a wrong value.
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


OPTION_NAMES = tuple(option.name for option in fields(StorageOptions))
