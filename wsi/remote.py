"""Files behind URLs: their file systems, what those take from the environment, and their errors."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import fsspec
from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem

from slideloom.errors import SettingsError, SlideAccessError

_REMOTE = "'slideloom[remote]'"
_PACKAGES = {
    "s3": _REMOTE,
    "https": _REMOTE,
    "http": _REMOTE,
    "gs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
}
"""What to install for URLs of each kind; those of S3 and the web are tested."""

_S3_OPTIONS = {
    "key": ("AWS_ACCESS_KEY_ID",),
    "secret": ("AWS_SECRET_ACCESS_KEY",),
    "token": ("AWS_SESSION_TOKEN",),
    "endpoint_url": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
}
"""Variables that may change while a process runs; botocore reads all others by itself."""
_FORBIDDEN = (401, 403)


class ForbiddenError(SlideAccessError):
    """The server knows the request and refuses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemotePlace:
    """A file or folder behind a URL.

    Attributes:
        system: The file system of fsspec; it may be used from any thread.
        path: The place in it, as its methods take it.
        url: As the user gave it.
    """

    system: AbstractFileSystem
    path: str
    url: str


def open_filesystem(url: str) -> RemotePlace:
    """The file system that serves `url`; nothing is asked of the server yet.

    Raises:
        SettingsError: URLs of this kind are not served, or packages for it are not installed.
        SlideAccessError: The credentials make no sense.
    """
    scheme = scheme_of(url)
    if scheme not in _PACKAGES:
        msg = f"'{url}' is a URL of '{scheme}': give one of {', '.join(_PACKAGES)}, or a path"
        raise SettingsError(msg)
    try:
        system, path = fsspec.url_to_fs(url, **remote_options(scheme))
    except ImportError as error:
        msg = (
            f"'{url}' needs packages that are not installed ({error}): "
            f"install them with pip install {_PACKAGES[scheme]}"
        )
        raise SettingsError(msg) from error
    if not isinstance(system, AsyncFileSystem):
        msg = f"'{url}' is served by {type(system).__name__}, which cannot read ranges at once"
        raise SettingsError(msg)
    return RemotePlace(system=system, path=path, url=url)


def scheme_of(url: str) -> str:
    """`s3` of `s3://bucket/key`."""
    return url.split("://", maxsplit=1)[0].lower()


def remote_options(scheme: str) -> dict[str, Any]:
    """What fsspec is to know of the environment; it reuses clients of the same options.

    Raises:
        ImportError: The packages for S3 are not installed.
        SlideAccessError: The credentials make no sense.
    """
    if scheme == "s3":
        stated = {
            option: os.environ[name]
            for option, names in _S3_OPTIONS.items()
            for name in reversed(names)
            if os.environ.get(name)
        }
        return {
            "anon": _has_no_credentials(),
            # One request per object: s3fs asks for its size first where it may fetch parts at once.
            "max_concurrency": 1,
            # What others write while this process runs has to be seen.
            "use_listings_cache": False,
            **stated,
        }
    # Proxies come from the environment, as with S3.
    return {"client_kwargs": {"trust_env": True}} if scheme in ("http", "https") else {}


def network_errors(url: str) -> tuple[type[Exception], ...]:
    """What the packages behind a URL raise; they are installed by now."""
    if scheme_of(url) == "s3":
        from botocore.exceptions import BotoCoreError

        return OSError, BotoCoreError
    from aiohttp import ClientError

    return OSError, ClientError


def refusal(url: str, error: BaseException) -> SlideAccessError:
    """The error for a request that failed, but for one about what is not there."""
    found = " ".join(str(error).split()) or type(error).__name__
    forbidden = getattr(error, "status", None) in _FORBIDDEN
    if forbidden or isinstance(error, PermissionError):
        return ForbiddenError(
            f"'{url}' may not be read ({found}): check the address and your credentials, "
            "or ask for permission to read it"
        )
    return SlideAccessError(
        f"'{url}' cannot be fetched ({found}): check the address and the network"
    )


def _has_no_credentials() -> bool:
    import botocore.session
    from botocore.exceptions import BotoCoreError

    try:
        return botocore.session.get_session().get_credentials() is None
    except BotoCoreError as error:
        msg = f"the credentials for S3 cannot be used ({error}): check AWS_PROFILE and ~/.aws"
        raise SlideAccessError(msg) from error
