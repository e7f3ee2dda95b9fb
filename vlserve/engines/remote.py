"""Diagnoses why a remote server (``url``) does not serve, from its response: the cause, and the setting to change.

Used by the probe and in docs/troubleshooting.md. Clients see the cause, so it contains no address and no setting.
"""

import json
import re

import aiohttp

from vlserve.engines.diagnosis import Diagnosis
from vlserve.engines.errors import engine_message

UNKNOWN_HOST = Diagnosis(
    "a DNS error",
    "",
    "The server's host name cannot be resolved.",
    "Check the host in `url`, and DNS on this machine.",
)
UNREACHABLE = Diagnosis(
    "connection refused, no route, connection timeout",
    "",
    "Nothing listens at the server's address, or it cannot be reached.",
    "Check host and port in `url`, whether the server is running, and firewalls in between.",
)
TLS = Diagnosis(
    "a TLS or certificate error",
    "",
    "No secure connection to the server can be made: it does not speak TLS, or its certificate is not trusted.",
    "Use https:// in `url` only if the server speaks TLS. For your own CA, set SSL_CERT_FILE in the environment of "
    "vlserve to a file with its certificates.",
)
NO_HTTP = Diagnosis(
    "the connection is closed without an HTTP response",
    "",
    "The server closes the connection without an HTTP response.",
    "Check port and scheme in `url`: a server that speaks TLS needs https://.",
)
SILENT = Diagnosis(
    "no answer yet",
    "",
    "The server has accepted the first request and not answered it yet.",
    "It may still be loading; see its log. `ready_timeout_s` limits the wait.",
)
REDIRECT = Diagnosis(
    "301, 302, 307 or 308",
    "",
    "The server redirects requests to another address, and redirects are not followed.",
    "Set `url` to the address that it redirects to, often the same one with https://.",
)
KEY = Diagnosis(
    "401 or 403",
    "",
    "The server refuses the API key of this gateway, or requires one.",
    "Set `url_api_key_env` to the environment variable with its key, and check the variable's value.",
)
MODEL = Diagnosis(
    "404 or 400 about the model",
    "",
    "The server does not have the requested model.",
    "Set `model` to one of the names in the server's own /v1/models.",
)
PATH = Diagnosis(
    "404, 405 or 501 about the path",
    "",
    "The server has no /v1/chat/completions at this address.",
    "Set `url` to the server's base, as in http://host:port, without /v1 or a longer path; "
    "it must be an OpenAI-style server.",
)
NOT_OPENAI = Diagnosis(
    "200 or 400 with HTML or other text",
    "",
    "The response is not from an OpenAI-style server.",
    "Check host, port and path in `url`: it may be a web page, a proxy, or another service.",
)
BUSY = Diagnosis(
    "429",
    "",
    "The server accepts no more requests now: it is at capacity, or a quota is used up.",
    "Wait, or check the quota of the key in `url_api_key_env`.",
)
FAILING = Diagnosis(
    "500 to 599",
    "",
    "The server reports that it cannot serve now.",
    "It may be loading, or `url` is a proxy whose backend is down; see its log.",
)
REFUSED = Diagnosis(
    "400 or 422 about the request",
    "",
    "The server refuses a plain request for one token.",
    "The log has its message. For the `vision` engine that request contains a picture: `model` must accept pictures, "
    "or set `limit_mm_per_prompt: {image: 0}`.",
)
DIAGNOSES = (
    *(UNKNOWN_HOST, UNREACHABLE, TLS, NO_HTTP, SILENT),
    *(REDIRECT, KEY, MODEL, PATH, NOT_OPENAI, BUSY, FAILING, REFUSED),
)
_NO_MODEL = re.compile(
    r"(?i)model_not_found|(?:no|invalid|unknown) model\b"
    r"|\bmodel\b.{0,300}(?:not exist|not found|not available|not supported|not served|unknown)",
    re.DOTALL,
)


def of_answer(status: int, body: bytes) -> Diagnosis | None:
    """Diagnose a server from its response to a chat request; None: it serves."""
    try:
        tree = json.loads(body)
    except (ValueError, RecursionError):
        tree = None
    is_object = isinstance(tree, dict)
    if status == 200:
        return None if is_object and isinstance(tree.get("choices"), list) else NOT_OPENAI
    message, _, code = engine_message(body)
    for is_it, diagnosis in (
        (300 <= status < 400, REDIRECT),
        (status in (401, 403), KEY),
        (status in (400, 404, 422) and _NO_MODEL.search(f"{code}: {message}"), MODEL),
        (status in (404, 405, 501), PATH),
        (status == 429, BUSY),
        (status >= 500, FAILING),
    ):
        if is_it:
            return diagnosis
    return REFUSED if is_object else NOT_OPENAI


def of_fault(fault: Exception) -> Diagnosis:
    """Diagnose a server from a failed connection."""
    if isinstance(fault, aiohttp.ClientConnectorDNSError):
        return UNKNOWN_HOST
    if isinstance(fault, aiohttp.ClientSSLError):
        return TLS
    if isinstance(fault, aiohttp.ClientConnectorError | TimeoutError):
        return UNREACHABLE
    return NO_HTTP
