"""The tables of docs/api.md: rows for each endpoint. Refused fields, and limits by settings, come from
``vlserve.protocols`` instead."""

from collections.abc import Mapping

from tests.endpoints.chat import CHAT_ROWS
from tests.endpoints.completions import COMPLETION_ROWS
from tests.endpoints.messages import COUNT_ROWS, MESSAGE_ROWS
from tests.endpoints.responses import RESPONSE_ROWS
from tests.endpoints.rows import Row
from vlserve.protocols.protocol_definitions import CHAT, COMPLETIONS, MESSAGE_TOKENS, MESSAGES, RESPONSES

TABLES: Mapping[str, list[Row]] = {
    CHAT.path: CHAT_ROWS,
    COMPLETIONS.path: COMPLETION_ROWS,
    RESPONSES.path: RESPONSE_ROWS,
    MESSAGES.path: MESSAGE_ROWS,
    MESSAGE_TOKENS.path: COUNT_ROWS,
}
