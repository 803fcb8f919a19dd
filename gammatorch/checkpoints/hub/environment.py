"""What the environment tells about the Hub, through huggingface_hub: nothing in it stops a read that could succeed."""

from __future__ import annotations

import logging
import re
from typing import Any

from huggingface_hub import constants, get_session
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # lazily re-exported

from gammatorch.errors import InvalidArgument

_log = logging.getLogger("gammatorch")


def find_endpoint() -> str:
    """The Hub's address, without a slash at its end."""
    return constants.ENDPOINT.rstrip("/")


def headers_for(token: str | None) -> dict[str, str]:
    """Who is asking.

    Args:
        token: Access token; None or blank for the one that huggingface_hub knows, if it can be read.

    Raises:
        InvalidArgument: The token cannot be one.
    """
    given = (token or "").strip() or None
    try:
        headers: dict[str, str] = build_hf_headers(token=given)
    except (OSError, UnicodeDecodeError) as error:  # public repositories need none
        _log.info("the token in %s cannot be read (%s), none is sent", constants.HF_TOKEN_PATH, type(error).__name__)
        headers = build_hf_headers(token=False)
    if not re.fullmatch(r"Bearer [!-~]+", headers.get("authorization", "Bearer none")):
        raise InvalidArgument("the access token holds characters that no token has: copy it again")
    return headers


def find_session() -> Any:
    """The session of all requests.

    Raises:
        InvalidArgument: The environment names a proxy or certificates that cannot be used; which ones is not told,
            since a proxy's address may hold a password.
    """
    try:
        return get_session()
    except Exception as error:  # whatever the transport makes of it: ValueError, ImportError, its own InvalidURL
        reason = "SOCKS needs `pip install socksio`" if "socksio" in str(error) else type(error).__name__
        raise InvalidArgument(
            f"no connection can be prepared ({reason}): look at HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"
        ) from None
