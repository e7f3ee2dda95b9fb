"""The forms of requests and answers for the OpenAPI document: JSON schemas by name; plain data."""

from collections.abc import Mapping

from vlserve.media.files import PURPOSES
from vlserve.protocols.fields import INTEGER, TEXT, Schema, an_object, maybe, ref

_DETAIL: Schema = {"enum": ["low", "auto", "high", None]}


def _closed(required: str, /, **properties: Schema) -> Schema:
    return an_object(required, **properties) | {"additionalProperties": False}


def _part(types: list[str], field: str, value: Schema) -> Schema:
    # Of a part without a type, its one content field tells.
    kinds: list[str | None] = [*types] if field == "file_id" else [*types, None]
    detail: Schema = {} if value is TEXT else _DETAIL
    known = {"type": {"enum": kinds}, field: value, "detail": detail, "cache_control": {}}
    return _closed("type file_id" if field == "file_id" else field, **known)


_URL: Schema = {
    "type": "string",
    "pattern": "^(data:image/|https?://)",
    "description": "data:image/png;base64,…, or an address to fetch the picture from.",
}
_PICTURE: Schema = {"anyOf": [_closed("url", url=_URL, detail=_DETAIL), _URL]}
_VIDEO_URL: Schema = {
    "type": "string",
    "pattern": "^(data:video/|https?://)",
    "description": "data:video/mp4;base64,…, or an address to fetch the video from.",
}
_FILE_ID: Schema = TEXT | {"description": "Of an uploaded file (`/v1/files`)."}
_CONTENT: list[Schema] = [TEXT, {"type": "array", "items": ref("Part")}]
_MESSAGE: Schema = {
    "name": TEXT,
    "tool_call_id": maybe("string"),
    "tool_calls": maybe("array", items={"type": "object"}),
}
_CHOICE = an_object(
    "index message finish_reason",
    index=INTEGER,
    message=an_object(
        "role content",
        role=TEXT,
        content=maybe("string"),
        tool_calls={"type": "array", "items": {"type": "object"}},
    ),
    finish_reason=maybe("string"),
    logprobs=maybe("object"),
)
_USAGE = an_object(prompt_tokens=INTEGER, completion_tokens=INTEGER, total_tokens=INTEGER)
_SOURCE: Schema = {
    "anyOf": [
        _closed("type data", type={"const": "base64"}, data=TEXT, media_type=TEXT),
        _closed("type url", type={"const": "url"}, url=_URL),
        _closed("type file_id", type={"const": "file"}, file_id=_FILE_ID),
    ]
}
# Where API keys exist, all but the state needs one.
_ENGINE_STATE = an_object("state", state=TEXT, model=TEXT, retry_after_s=INTEGER, problem=TEXT)
SCHEMAS: Mapping[str, Schema] = {
    "Message": {
        "anyOf": [
            an_object(
                "role", role={"const": "assistant"}, content={"anyOf": [*_CONTENT, {"type": "null"}]}, **_MESSAGE
            ),
            an_object("role content", role=TEXT, content={"anyOf": _CONTENT}, **_MESSAGE),
        ]
    },
    "Part": {
        "anyOf": [
            _part(["text", "input_text", "output_text"], "text", TEXT),
            _part(["refusal"], "refusal", TEXT),
            _part(["image_url", "input_image"], "image_url", _PICTURE),
            _part(["input_image"], "file_id", _FILE_ID),
            _part(["image_file"], "image_file", _closed("file_id", file_id=_FILE_ID, detail=_DETAIL)),
            _part(
                ["video_url"],
                "video_url",
                {"anyOf": [_closed("url", url=_VIDEO_URL), _closed("file_id", file_id=_FILE_ID), _VIDEO_URL]},
            ),
            _part(["file"], "file", _closed("file_id", file_id=_FILE_ID, filename={})),
            _part(["file"], "file", _closed("file_data", file_data=_URL, filename={})),
        ]
    },
    "ChatCompletion": an_object(
        "id object model choices usage",
        id=TEXT,
        object={"const": "chat.completion"},
        created=INTEGER,
        model=TEXT | {"description": "The model that answered."},
        choices={"type": "array", "items": _CHOICE},
        usage=_USAGE,
    ),
    "Completion": an_object(
        "id object model choices usage",
        id=TEXT,
        object={"const": "text_completion"},
        created=INTEGER,
        model=TEXT,
        choices={"type": "array", "items": an_object("index text finish_reason", index=INTEGER, text=TEXT)},
        usage=_USAGE,
    ),
    "InputItem": {
        "anyOf": [
            an_object(
                "role content",
                type={"const": "message"},
                role={"enum": ["user", "system", "developer", "assistant"]},
                content={"anyOf": _CONTENT},
            ),
            an_object(
                "type call_id name arguments", type={"const": "function_call"}, call_id=TEXT, name=TEXT, arguments=TEXT
            ),
            an_object(
                "type call_id output",
                type={"const": "function_call_output"},
                call_id=TEXT,
                output={"anyOf": _CONTENT},
            ),
        ]
    },
    "Response": an_object(
        "id object status model output",
        id=TEXT,
        object={"const": "response"},
        status={"enum": ["completed", "incomplete"]},
        model=TEXT,
        output={"type": "array", "items": {"type": "object"}},
    ),
    "AnthropicMessage": an_object(
        "role content",
        role={"enum": ["user", "assistant"]},
        content={"anyOf": [TEXT, {"type": "array", "items": ref("AnthropicBlock")}]},
    ),
    "AnthropicBlock": {
        "anyOf": [
            _closed("type text", type={"const": "text"}, text=TEXT, cache_control={}, citations={}),
            _closed("type source", type={"const": "image"}, source=_SOURCE, cache_control={}),
            an_object("type id name input", type={"const": "tool_use"}, id=TEXT, name=TEXT, input={"type": "object"}),
            an_object("type tool_use_id", type={"const": "tool_result"}, tool_use_id=TEXT),
        ]
    },
    "AnthropicAnswer": an_object(
        "id type role content model stop_reason usage",
        id=TEXT,
        type={"const": "message"},
        role={"const": "assistant"},
        content={"type": "array", "items": {"type": "object"}},
        model=TEXT,
        stop_reason=maybe("string"),
        usage=an_object("input_tokens output_tokens", input_tokens=INTEGER, output_tokens=INTEGER),
    ),
    "AnthropicTokens": an_object("input_tokens", input_tokens=INTEGER),
    "AnthropicError": an_object(
        "type error",
        type={"const": "error"},
        error=an_object("type message", type=TEXT, message=TEXT),
        request_id=TEXT,
    ),
    "Model": an_object(
        "id object created owned_by",
        id=TEXT,
        object={"const": "model"},
        created=INTEGER,
        owned_by=TEXT,
        max_model_len=INTEGER,
    ),
    "Models": an_object("object data", object={"const": "list"}, data={"type": "array", "items": ref("Model")}),
    "File": an_object(
        "id object bytes created_at expires_at filename purpose status",
        id=TEXT,
        object={"const": "file"},
        bytes=INTEGER,
        created_at=INTEGER,
        expires_at=INTEGER,
        filename=TEXT,
        purpose={"enum": list(PURPOSES)},
        status={"const": "processed"},
    ),
    "Files": an_object(
        "object data has_more",
        object={"const": "list"},
        data={"type": "array", "items": ref("File")},
        has_more={"type": "boolean"},
        first_id=TEXT,
        last_id=TEXT,
    ),
    "InputTokens": an_object(
        "object model input_tokens input_tokens_details images videos max_model_len",
        object={"const": "chat.completion.input_tokens"},
        model=TEXT,
        input_tokens=INTEGER,
        input_tokens_details=an_object(
            "text_tokens image_tokens video_tokens", text_tokens=INTEGER, image_tokens=INTEGER, video_tokens=INTEGER
        ),
        images={
            "type": "array",
            "items": an_object(
                "param width height model_width model_height tokens",
                param=TEXT,
                width=INTEGER,
                height=INTEGER,
                model_width=INTEGER,
                model_height=INTEGER,
                tokens=INTEGER,
            ),
        },
        videos={
            "type": "array",
            "items": an_object(
                "param width height frames model_width model_height model_frames tokens",
                param=TEXT,
                width=INTEGER,
                height=INTEGER,
                frames=INTEGER,
                model_width=INTEGER,
                model_height=INTEGER,
                model_frames=INTEGER,
                tokens=INTEGER,
            ),
        },
        max_model_len=maybe("integer"),
    ),
    "GeneratedTest": an_object(
        "mode outcome file_name code report annotated junit",
        mode={"enum": ["verified", "draft"]},
        outcome={"enum": ["passed", "failed", "not_run", "no_test"]},
        file_name=TEXT,
        code=maybe("string", description="Null where nothing was found that the scenario expects."),
        report={"type": "object"},
        annotated=TEXT | {"description": "The picture with a box and the id of every element: data:image/png;base64,…"},
        junit=maybe("string", description="JUnit's XML of the run, where the test was run."),
    ),
    "Testgen": an_object(
        "object available problem targets run allowed_origins",
        object={"const": "testgen"},
        available={"type": "boolean"},
        problem=maybe("string", description="Why none are made."),
        targets={"type": "array", "items": TEXT},
        run={"type": "boolean", "description": "Finished tests are run here."},
        allowed_origins={"type": "array", "items": TEXT, "description": "`*`: any public one."},
    ),
    "Readiness": an_object(
        "status engines",
        status={"enum": ["ready", "not ready"]},
        engines={"type": "object", "additionalProperties": _ENGINE_STATE},
    ),
    "Error": an_object(
        "error",
        error=an_object(
            "message type param code",
            message=TEXT,
            type=TEXT,
            param=maybe("string", description="The part of the request at fault."),
            code=maybe("string", description="For programs."),
        ),
    ),
}
