"""Retry with backoff for requests to the Hugging Face hub, and messages about refused requests."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from mobilevideogpt.errors import InputError

log = logging.getLogger(__name__)
BACKOFF = (1, 2, 4, 8, 16)  # seconds before each retry, where the hub does not send Retry-After
UNREACHABLE = BACKOFF[:3]  # likewise, where there is no answer at all
RETRY_LATER = (408, 429)  # beside all statuses from 500 on
REMEDIES = {
    401: "check the name, or log in with `hf auth login`",
    403: "ask for access on its page, then run `hf auth login`",
    404: "check the name and the revision",
}
T = TypeVar("T")


def retry(call: Callable[[], T], errors: type[Exception] | tuple[type[Exception], ...]) -> T:
    """Repeat ``call`` while it fails with one of ``errors`` for a transient reason.

    The client of the hub does not cover this. It waits after status 429 when it lists or downloads files, but not when
    it resolves a revision. It does not retry a download after a server error, nor understand a date in ``Retry-After``.
    """
    for seconds in BACKOFF:
        try:
            return call()
        except errors as error:
            cause = _cause(error)
            if not _is_transient(cause) or (_has_no_answer(cause) and seconds not in UNREACHABLE):
                raise
            if (response := getattr(cause, "response", None)) is not None:
                seconds = _retry_after(response.headers.get("Retry-After"), seconds)
            log.warning("%s; retrying in %.0f s", str(cause).strip().partition("\n")[0], seconds)
            time.sleep(seconds)
    return call()


def refused(where: str, error: Exception) -> InputError:
    """Make the error for a request that the hub answered with an error status (``HfHubHTTPError``)."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    remedy = REMEDIES.get(status, "try again later") if status else "try again later"
    return InputError(f"{where}: the hub answers {status or 'with an error'}; {remedy}")


@contextmanager
def explained(where: str, unreachable: str, remedy: str) -> Iterator[None]:
    """Turn errors of the hub's client into messages.

    Args:
        where: What is asked for.
        unreachable: What to say if there is no answer.
        remedy: What to do then.

    Raises:
        InputError: If the hub refuses, cannot be reached, or a file cannot be written.
    """
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # pyright: ignore[reportPrivateImportUsage]

    try:
        yield
    except (HTTPError, OSError) as error:
        cause = _cause(error)
        if isinstance(cause, HfHubHTTPError):
            raise refused(where, cause) from error
        what = str(cause).strip().partition("\n")[0]
        raise InputError(f"{where}: {unreachable} ({type(cause).__name__}: {what}); {remedy}") from error


def _cause(error: Exception) -> BaseException:
    """Return the error of the connection; the client wraps it where no cached file can replace the download."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    return error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error


def _has_no_answer(error: BaseException) -> bool:
    """Whether not even a connection came about."""
    return type(error).__name__ in ("ConnectError", "ConnectTimeout", "ConnectionError", "ConnectionRefusedError")


def _is_transient(error: BaseException) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return False
    if getattr(error, "errno", None):  # of the operating system, a full disk for example
        return False
    response = getattr(error, "response", None)
    return response is None or response.status_code in RETRY_LATER or response.status_code >= 500


def _retry_after(header: str | None, default: float) -> float:
    """Return the seconds in the header ``Retry-After``, which contains a number or a date."""
    if header is None:
        return default
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return default
