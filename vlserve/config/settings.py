"""The settings: a frozen Pydantic model for each section of the config file.

The docstrings of the fields are the descriptions in docs/configuration.md.
"""

import pathlib
from typing import Annotated, Literal

from pydantic import ByteSize, Field, IPvAnyNetwork, model_validator

from vlserve.config.authority import Hosts, Listener, Origins, WebOrigins, WebOriginsOrAny, split_listener
from vlserve.config.engine_settings import Engines
from vlserve.config.settings_base import Settings


class KeyLimits(Settings):
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    """Most requests of one key per minute, for answers, counts and files; they may all come at once. More is a 429."""
    max_in_flight: Annotated[int, Field(gt=0)] | None = None
    """Most open requests of one key, in engines and queues. More is a 429."""


class KeySettings(KeyLimits):
    metrics: bool = False
    """Whether this key may read `/metrics`, which shows the usage of all keys."""


class Server(Settings):
    host: str = "127.0.0.1"
    """Address to listen on. A public address needs API keys, or `allow_unauthenticated`."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """TCP port; 0 chooses a free one and prints it."""
    api_keys_file: pathlib.Path | None = None
    """File with a line `name: sha256:…` for each key (`vlserve key NAME` creates both); `#` begins a comment line."""
    api_keys_env: str | None = None
    """Name of an environment variable with comma-separated API keys, each `key` or `name: key`."""
    key_limits: KeyLimits = KeyLimits()
    keys: dict[str, KeySettings] = {}
    """Settings of individual keys by name: `{ana: {requests_per_minute: 600}, ops: {metrics: true}}`. A limit that is
    not set is that of `key_limits`; null means no limit. `metrics: true` allows a key to read `/metrics`."""
    metrics_listen: Listener | None = None
    """A second address, such as `127.0.0.1:9400`, that serves only `/metrics`. A loopback address needs no key, even if
    the service has keys, and the Host header must be `localhost`, an IP address or in `allowed_hosts`. A public address
    needs a key with `metrics: true`, or, in a service without keys, `allow_unauthenticated`. The port must differ from
    `port`."""
    allow_unauthenticated: bool = False
    """Allow a public `host` or `metrics_listen` without any API key."""
    trusted_proxies: list[IPvAnyNetwork] = []
    """Reverse proxies whose `X-Forwarded-For` names the client in the log, e.g. `[10.0.0.2, 10.1.0.0/16]`. Default:
    none, and the log has the address of the connection."""
    allowed_hosts: Hosts = []
    """Accepted names in the Host header of listeners that need no API key (a service without keys; a loopback
    `metrics_listen`), in addition to `localhost` and IP addresses: `[gpu-box.lan]`. Others are a 421. Default: none on
    a loopback address, every name on others."""
    public_origins: WebOrigins = []
    """Origins of this service's own page if a proxy changes the Host header: `[https://vl.example.com]`. Without API
    keys, a browser's request is a 403 unless its origin is the Host, listed here, or in `cors_origins`."""
    max_body_bytes: Annotated[ByteSize, Field(gt=0)] = ByteSize(48 * 1024**2)
    """Largest request body; more is a 413."""
    max_bodies_bytes: Annotated[ByteSize, Field(gt=0)] = ByteSize(2 * 1024**3)
    """Limit for all request bodies and pictures in memory together; more is a 429. With several API keys, one key may
    use half. They are freed once the engine begins to answer; the metric `vlserve_request_bytes_in_memory` shows the
    sum."""
    head_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """Time for a request's headers to arrive; then the connection is closed."""
    body_timeout_s: Annotated[float, Field(gt=0)] = 30.0
    """Time for a request's body to arrive, plus a second for each 64 KiB that arrived; then it is a 408. A connection
    whose client reads nothing of its answer for this time is closed."""
    queue_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """Longest wait in a queue: for a busy engine, or to fetch, decode or upload; then it is a 429. A stream receives
    nothing while it waits, not even comments, so keep this below the timeouts of clients and proxies."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Most time for one request, waiting included; then it is a 504, or an error event in its stream."""
    sse_keep_alive_s: Annotated[float, Field(gt=0)] = 15.0
    """Interval of the comments in a stream that waits for its engine, so that proxies do not close it as idle."""
    shutdown_grace_s: Annotated[float, Field(ge=0)] = 30.0
    """Time for running answers to finish after SIGTERM, SIGHUP or Ctrl-C; new requests are a 503 meanwhile."""
    cors_origins: Origins = []
    """Origins of other web pages and of browser extensions that may call this service: `https://host`,
    `chrome-extension://id`. `*` means every page, `null` pages that hide their origin. Such pages may send the
    headers of OpenAI's and Anthropic's SDKs. Default: none."""

    def limits(self, key: str) -> KeyLimits:
        """The limits of the API key of this name."""
        own = self.keys.get(key, KeySettings()).model_dump(exclude_unset=True, exclude={"metrics"})
        return self.key_limits.model_copy(update=own)

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """Host and port of ``metrics_listen``."""
        return split_listener(self.metrics_listen) if self.metrics_listen else None


class Log(Settings):
    format: Literal["pretty", "json"] = "pretty"
    """`pretty` for people, `json` for programs: one object per line."""


class Tracing(Settings):
    otlp_endpoint: str | None = None
    """OpenTelemetry collector (OTLP over HTTP, `http://host:4318`) for a span per request, engines included."""


class Request(Settings):
    max_n: Annotated[int, Field(ge=1)] = 8
    """Largest `n`, choices per request."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Most tokens of one answer, also for requests that set no length. Default: `max_model_len`."""
    max_top_logprobs: Annotated[int, Field(ge=0)] = 20
    """Largest `top_logprobs` and `prompt_logprobs`."""
    max_stop: Annotated[int, Field(ge=0)] = 32
    """Largest number of entries in `stop`, `stop_token_ids` and `bad_words`."""
    control_tokens: Literal["neutralize", "reject", "allow"] = "neutralize"
    """Control tokens of the chat template (`<|im_start|>`, `<|image_pad|>`, …) in clients' text. `neutralize` inserts a
    zero-width space, so that they are plain text; `reject` is a 400; `allow` lets clients forge turns of a chat. In
    `/v1/completions` this is about the tokens of pictures and videos only."""
    allow_grammar: bool = False
    """Accept `structured_outputs.grammar`. A grammar of 70 characters can keep an engine busy for as long as its client
    waits, and such grammars cannot be detected: only for clients that you trust."""


class Image(Settings):
    max_image_bytes: Annotated[ByteSize, Field(gt=0)] = ByteSize(20 * 1024**2)
    """Largest picture, in bytes after base64 decoding."""
    max_image_pixels: Annotated[int, Field(gt=0)] = 50_000_000
    """Largest width × height of all pictures of a request together, read from their headers before they are decoded."""
    allow_gif: bool = True
    """Accept GIF pictures; only the first frame is used."""
    max_pixels: Annotated[int, Field(ge=28 * 28)] | None = None
    """Largest width × height of a picture for the model; larger ones are scaled down. Default: the model's own limit
    (12,845,056 for Qwen2.5-VL, six times a screenshot of 1920×1080). 28 × 28 pixels are one token."""
    low_detail_max_pixels: Annotated[int, Field(ge=28 * 28)] = 512 * 512
    """The same for pictures with OpenAI's `detail: low`."""
    fit: Literal["reject", "shrink"] = "reject"
    """When pictures and text do not fit `max_model_len`: `reject` answers with a 400 that lists the tokens of each
    picture; `shrink` scales the pictures down until they fit, and reports it in the header `x-vlserve-images`."""


class Video(Settings):
    max_video_bytes: Annotated[ByteSize, Field(gt=0)] = ByteSize(20 * 1024**2)
    """Largest video, in bytes after base64 decoding."""
    max_frames: Annotated[int, Field(ge=4, le=768)] = 32
    """Most frames of a video for the model: two per second, fewer of longer videos. Two frames cost as many tokens as
    one picture. With the defaults of this and `max_pixels`, a video fits Qwen2.5-VL's encoder cache."""
    max_pixels: Annotated[int, Field(ge=56 * 56, le=768 * 28 * 28)] = 768 * 28 * 28
    """Largest width × height of a frame for the model; larger ones are scaled down. The default, 768 tokens for two
    frames, is also the maximum: beyond it engines would reserve more memory at their start."""
    max_video_pixels: Annotated[int, Field(gt=0)] = 70_000_000
    """Largest width × height of all frames for the model together, in their original size (32 of 1920×1080 are 66
    million). While an engine decodes them it uses up to twelve bytes of RAM per pixel."""
    max_decoded_pixels: Annotated[int, Field(gt=0)] = 4_000_000_000
    """Largest width × height of all frames in the file together (64 s of 1920×1080 at 30 frames per second), since an
    engine decodes every one. A core decodes some 400 million pixels per second."""


class Fetch(Settings):
    enabled: bool = True
    """Fetch pictures and videos from `http(s)` URLs in requests. The engines themselves never fetch anything."""
    allowed_domains: list[str] = []
    """Fetch only from these domains and their subdomains, e.g. `[example.com]`. Default: from any."""
    denied_domains: list[str] = []
    """Never fetch from these domains and their subdomains."""
    allowed_networks: list[IPvAnyNetwork] = []
    """Private networks that may be fetched from, e.g. `[10.1.0.0/16]`. Default: none."""
    connect_timeout_s: Annotated[float, Field(gt=0)] = 5.0
    """Time to resolve a name and connect. The system's resolver may take longer: see `max_in_flight`."""
    read_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """Longest wait for the next bytes."""
    total_timeout_s: Annotated[float, Field(gt=0)] = 20.0
    """Time for one picture or video, redirects included, once it has left the queue (`max_in_flight`)."""
    max_redirects: Annotated[int, Field(ge=0, le=3)] = 3
    """Most redirects to follow, each checked like the first address."""
    max_in_flight: Annotated[int, Field(gt=0)] = 64
    """Most pictures and videos fetched at once, for all requests together; others wait. With several API keys, one key
    may use as many of these slots as are still free, half at most, so that slow hosts never occupy all. Four times as
    many names may be resolved at once, with the same share per key; more is a 429."""


class Files(Settings):
    folder: pathlib.Path | None = None
    """Folder for uploaded files. Default: `$XDG_DATA_HOME/vlserve/files` (`~/.local/share/vlserve/files`)."""
    max_file_bytes: Annotated[ByteSize, Field(gt=0)] = ByteSize(100 * 1024**2)
    """Largest file; more is a 413."""
    max_files: Annotated[int, Field(gt=0)] = 1000
    """Most files of one API key."""
    max_bytes: Annotated[ByteSize, Field(gt=0)] = ByteSize(2 * 1024**3)
    """Most bytes of all files of one API key."""
    max_total_bytes: Annotated[ByteSize, Field(gt=0)] = ByteSize(20 * 1024**3)
    """Most bytes of all files of all keys."""
    expires_after_s: Annotated[float, Field(gt=0)] = 30 * 24 * 3600.0
    """A file is deleted after this time; a request can set a shorter one with `expires_after`."""


class Testgen(Settings):
    enabled: bool = True
    """Generate tests from screenshots at `POST /v1/testgen`, if the extra `testgen` is installed."""
    run: bool = False
    """Run each generated test here, in a child process with resource limits. Default: pages are opened and inspected,
    but the test is delivered without having been run."""
    allowed_origins: WebOriginsOrAny = []
    """Origins of the pages that may be opened here, and of the resources that they may load, e.g.
    `[https://staging.example.com]`; `["*"]`: any public one. Default: none, and every test is a draft."""
    allowed_networks: list[IPvAnyNetwork] = []
    """Private networks whose pages may be opened, e.g. `[10.1.0.0/16]`. Default: none."""
    max_concurrent: Annotated[int, Field(gt=0)] = 1
    """Most tests generated at once, each with its own browser; more is a 429."""
    timeout_s: Annotated[float, Field(gt=0)] = 300.0
    """Most time to generate one test; then it is a 504, or an error event in its stream, and the partial test is lost.
    A test with repairs and many expectations may take minutes."""


class Config(Settings):
    server: Server = Server()
    log: Log = Log()
    tracing: Tracing = Tracing()
    request: Request = Request()
    image: Image = Image()
    video: Video = Video()
    image_overflow: Literal["reject", "keep_latest"] = "reject"
    """When a request has more pictures than `limit_mm_per_prompt`: `reject` is a 400; `keep_latest` replaces the oldest
    ones by a short text, and the header `x-vlserve-images-dropped` counts them."""
    fetch: Fetch = Fetch()
    files: Files = Files()
    testgen: Testgen = Testgen()
    auto_aliases: list[str] = []
    """More model names that mean `auto`, for clients with a fixed model name, e.g. `[gpt-4o]`."""
    fallback: Literal["vision"] | None = None
    """`vision`: text requests for model `auto` go to the vision engine while the text engine is unavailable."""
    engines: Engines

    @model_validator(mode="after")
    def _names_are_distinct(self) -> "Config":
        served = {settings.model_id for _, settings in self.engines.items()}
        if taken := served.intersection(self.auto_aliases):
            raise ValueError(f"auto_aliases: {sorted(taken)[0]!r} is the name of a model; an alias must differ from it")
        if self.fallback and not (self.engines.text and self.engines.vision):
            raise ValueError("fallback needs both engines")
        return self
