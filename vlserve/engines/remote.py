"""What is wrong with a server elsewhere (``url``), from how it answers: the cause, and the setting to change.

Used by the probe and in docs/troubleshooting.md. Clients are told the cause, so it names no address and no setting.
"""

import json
import re

import aiohttp

from vlserve.engines.diagnosis import Diagnosis
from vlserve.engines.errors import engine_message

UNKNOWN_HOST = Diagnosis(
    "an error of the name service",
    "",
    "The server's host name is not known.",
    "Check the host in `url`, and the name service of this machine.",
)
UNREACHABLE = Diagnosis(
    "connection refused, no route, no connection in time",
    "",
    "Nothing listens at the server's address, or it cannot be reached.",
    "Check host and port in `url`, that the server runs, and firewalls in between.",
)
TLS = Diagnosis(
    "an error of TLS or of a certificate",
    "",
    "No secure connection to the server can be made: it does not speak TLS, or its certificate is not trusted.",
    "`url` begins with https:// only where the server speaks TLS; SSL_CERT_FILE in the environment of vlserve names "
    "a file with certificates of a CA of your own.",
)
NO_HTTP = Diagnosis(
    "the connection is closed, no answer in HTTP",
    "",
    "The server closes the connection without an answer in HTTP.",
    "Check port and scheme in `url`: a server that speaks TLS needs https://.",
)
SILENT = Diagnosis(
    "no answer yet",
    "",
    "The server has taken the first request and not answered it yet.",
    "It may still be loading; its own log tells. `ready_timeout_s` is how long it is waited for.",
)
REDIRECT = Diagnosis(
    "301, 302, 307 or 308",
    "",
    "The server redirects requests to another address, which is not followed.",
    "Set `url` to the address that it redirects to, often the same with https://.",
)
KEY = Diagnosis(
    "401 or 403",
    "",
    "The server refuses the API key of this gateway, or wants one.",
    "`url_api_key_env` names the environment variable with its key: check that it is set there, and its value.",
)
MODEL = Diagnosis(
    "404 or 400 about the model",
    "",
    "The server does not have the model that it is asked for.",
    "Set `model` to one of the names in the server's own /v1/models.",
)
PATH = Diagnosis(
    "404, 405 or 501 about the path",
    "",
    "The server has no /v1/chat/completions where it is asked for it.",
    "Set `url` to the server's base, as in http://host:port, without /v1 or anything behind it; "
    "it must be an OpenAI-style server.",
)
NOT_OPENAI = Diagnosis(
    "200 or 400 with HTML or other text",
    "",
    "What answers is not an OpenAI-style server.",
    "Check host, port and path in `url`: it may be a web page, a proxy, or another service.",
)
BUSY = Diagnosis(
    "429",
    "",
    "The server takes no more requests now: it is full, or a quota is used up.",
    "Wait, or look at the quota of the key that `url_api_key_env` names.",
)
FAILING = Diagnosis(
    "500 to 599",
    "",
    "The server says that it cannot serve now.",
    "It may be loading, or what is behind it is down; its own log tells. `url` may name a proxy.",
)
REFUSED = Diagnosis(
    "400 or 422 about the request",
    "",
    "The server refuses a plain request for one token.",
    "The log has its words. The `vision` engine is asked with a picture: `model` must be one that reads pictures, "
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
    """What an answer to a chat request says about the server; None: it serves."""
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
    """What a failed connection says."""
    if isinstance(fault, aiohttp.ClientConnectorDNSError):
        return UNKNOWN_HOST
    if isinstance(fault, aiohttp.ClientSSLError):
        return TLS
    if isinstance(fault, aiohttp.ClientConnectorError | TimeoutError):
        return UNREACHABLE
    return NO_HTTP
