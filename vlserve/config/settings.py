"""The settings: frozen models, each section of the config one of them.

The descriptions here are the text of docs/configuration.md.
"""

import pathlib
from typing import Annotated, Literal

from pydantic import ByteSize, Field, IPvAnyNetwork, model_validator

from vlserve.config.authority import Hosts, Listener, Origins, WebOrigins, WebOriginsOrAny, split_listener
from vlserve.config.engine_settings import Engines
from vlserve.config.settings_base import Settings


class KeyLimits(Settings):
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    """Requests that one key may make in a minute, for answers, counts and files; a whole minute's worth may come at
    once. More is a 429."""
    max_in_flight: Annotated[int, Field(gt=0)] | None = None
    """Requests that one key may have open at once, in engines and queues. More is a 429."""


class KeySettings(KeyLimits):
    metrics: bool = False
    """Whether this key may read `/metrics`, which has the figures of all keys."""


class Server(Settings):
    host: str = "127.0.0.1"
    """Address to listen on. A public one needs API keys, or `allow_unauthenticated`."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """TCP port; 0 takes a free one and prints it."""
    api_keys_file: pathlib.Path | None = None
    """File with a line `name: sha256:…` for each key (`vlserve key NAME` makes both); `#` begins a comment line."""
    api_keys_env: str | None = None
    """Name of an environment variable with comma-separated API keys, each `key` or `name: key`."""
    key_limits: KeyLimits = KeyLimits()
    keys: dict[str, KeySettings] = {}
    """Settings of single keys by name: `{ana: {requests_per_minute: 600}, ops: {metrics: true}}`. A limit that is not
    given is that of `key_limits`; null means none. `metrics: true` lets a key read `/metrics`."""
    metrics_listen: Listener | None = None
    """Address and port where `/metrics` alone is served, too: `127.0.0.1:9400`. On a loopback address it needs no key,
    whatever keys the service has, and the Host header must be `localhost`, an IP address or in `allowed_hosts`. On a
    public one it needs a key with `metrics: true`, or, where there are no keys, `allow_unauthenticated`. Its port must
    be another one than `port`."""
    allow_unauthenticated: bool = False
    """Allow a public `host` or `metrics_listen` without any API key."""
    trusted_proxies: list[IPvAnyNetwork] = []
    """Reverse proxies whose `X-Forwarded-For` names the client in the log, e.g. `[10.0.0.2, 10.1.0.0/16]`. Default:
    none, and the client is whoever opened the connection."""
    allowed_hosts: Hosts = []
    """Names in the Host header that are served where no API key is asked for (the service without keys; a loopback
    `metrics_listen`, with keys too), besides `localhost` and IP addresses: `[gpu-box.lan]`. Others are a 421. Default:
    none on a loopback address, every name on others."""
    public_origins: WebOrigins = []
    """Where browsers find this service's own page when a proxy writes another Host header: `[https://vl.example.com]`.
    Without API keys, a browser's request from an origin that is neither the Host nor here nor in `cors_origins` is a
    403."""
    max_body_bytes: Annotated[ByteSize, Field(gt=0)] = ByteSize(48 * 1024**2)
    """Largest request body; more is a 413."""
    max_bodies_bytes: Annotated[ByteSize, Field(gt=0)] = ByteSize(2 * 1024**3)
    """All request bodies and pictures that are in memory together; more is a 429. Of several API keys one may use half.
    A request's are freed once its engine begins to answer; the metric `vlserve_request_bytes_in_memory` has their sum.
    """
    head_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """A connection must have sent the head of its request by then, or it is closed."""
    body_timeout_s: Annotated[float, Field(gt=0)] = 30.0
    """Time for a request's body to arrive; each 64 KiB that arrived give a second more. Then it is a 408. An answer of
    which a client takes nothing for this time is broken off."""
    queue_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """Longest wait for a place in an engine that is full, or to fetch, decode or upload in; then it is a 429. Until it
    has one, a stream gets nothing, comments included, so keep this below the timeouts of clients and proxies."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Longest time one request may take, waiting included; then it is a 504, or an error event in its stream."""
    sse_keep_alive_s: Annotated[float, Field(gt=0)] = 15.0
    """A stream that waits for its engine gets a comment this often, so that nothing between client and server takes it
    for dead."""
    shutdown_grace_s: Annotated[float, Field(ge=0)] = 30.0
    """After SIGTERM, SIGHUP or Ctrl-C, the time that running answers get to finish; new requests are a 503
    meanwhile."""
    cors_origins: Origins = []
    """Origins of other pages and of extensions whose scripts may call this service: `https://host`,
    `chrome-extension://id`. `*` means every page, `null` every page that hides its origin. Default: none."""

    def limits(self, key: str) -> KeyLimits:
        """What holds for the API key of this name."""
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
    """Most tokens one answer may have; asked of the engine where a request names none. Default: `max_model_len`."""
    max_top_logprobs: Annotated[int, Field(ge=0)] = 20
    """Largest `top_logprobs` and `prompt_logprobs`."""
    max_stop: Annotated[int, Field(ge=0)] = 32
    """Most entries in `stop`, `stop_token_ids` and `bad_words`."""
    control_tokens: Literal["neutralize", "reject", "allow"] = "neutralize"
    """Control tokens of the chat template (`<|im_start|>`, `<|image_pad|>`, …) in clients' text. `neutralize` inserts a
    zero-width space, so that they are plain text; `reject` is a 400; `allow` lets clients forge turns of a chat. In
    `/v1/completions` this is about the tokens of pictures and videos only."""
    allow_grammar: bool = False
    """Take `structured_outputs.grammar`. A grammar of 70 characters can keep an engine busy for as long as its client
    waits, and nothing can tell it from a good one: only for clients that you trust."""


class Image(Settings):
    max_image_bytes: Annotated[ByteSize, Field(gt=0)] = ByteSize(20 * 1024**2)
    """Largest picture, in bytes after base64 decoding."""
    max_image_pixels: Annotated[int, Field(gt=0)] = 50_000_000
    """Width × height of all pictures of a request together, read from their headers before anything decodes them."""
    allow_gif: bool = True
    """Take GIF pictures; only the first frame is looked at."""
    max_pixels: Annotated[int, Field(ge=28 * 28)] | None = None
    """Width × height of one picture as the model gets it; a larger one is made smaller first. Default: the model's own
    limit (12,845,056 for Qwen2.5-VL, of which a screenshot of 1920×1080 is a sixth). 28 × 28 pixels are one token."""
    low_detail_max_pixels: Annotated[int, Field(ge=28 * 28)] = 512 * 512
    """The same for pictures that a request sends with OpenAI's `detail: low`."""
    fit: Literal["reject", "shrink"] = "reject"
    """When pictures and text do not fit `max_model_len`: `reject` tells the tokens of each picture in a 400, `shrink`
    makes the pictures smaller until they fit, and the header `x-vlserve-images` says so."""


class Video(Settings):
    max_video_bytes: Annotated[ByteSize, Field(gt=0)] = ByteSize(20 * 1024**2)
    """Largest video, in bytes after base64 decoding."""
    max_frames: Annotated[int, Field(ge=4, le=768)] = 32
    """Frames that the model looks at: two for each second, of a longer video fewer. Two frames make one picture of
    tokens. With the default and `max_pixels`' a video fits what Qwen2.5-VL's engine keeps at once."""
    max_pixels: Annotated[int, Field(ge=56 * 56, le=768 * 28 * 28)] = 768 * 28 * 28
    """Width × height of a frame as the model gets it; larger ones are made smaller. The default, 768 tokens for two
    frames, is the most: with more, engines would need more memory from their start."""
    max_video_pixels: Annotated[int, Field(gt=0)] = 70_000_000
    """Width × height of all frames that the model looks at, in their own size (32 of 1920×1080 are 66 million). While
    an engine decodes them it takes up to twelve bytes of RAM for each."""
    max_decoded_pixels: Annotated[int, Field(gt=0)] = 4_000_000_000
    """Width × height of all frames in the file (64 s of 1920×1080 with 30 a second), since an engine decodes every one.
    A core does some 400 million a second."""


class Fetch(Settings):
    enabled: bool = True
    """Fetch pictures and videos that a request names by their `http(s)` address. Engines themselves never fetch
    anything."""
    allowed_domains: list[str] = []
    """Fetch from these and their subdomains only, e.g. `[example.com]`. Default: from any."""
    denied_domains: list[str] = []
    """Never fetch from these and their subdomains."""
    allowed_networks: list[IPvAnyNetwork] = []
    """Networks that are not public and may be asked all the same, e.g. `[10.1.0.0/16]`. Default: none."""
    connect_timeout_s: Annotated[float, Field(gt=0)] = 5.0
    """Time to resolve a name and connect. The system's resolver may go on for longer: see `max_in_flight`."""
    read_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """Longest wait for the next bytes."""
    total_timeout_s: Annotated[float, Field(gt=0)] = 20.0
    """Time for one picture or video, redirects included, from when it has a place (`max_in_flight`)."""
    max_redirects: Annotated[int, Field(ge=0, le=3)] = 3
    """Redirects to follow, each checked like the first address."""
    max_in_flight: Annotated[int, Field(gt=0)] = 64
    """Pictures and videos fetched at once, for all requests together. Where there are several API keys, one has as many
    of these places as are still free, half at most, so that slow hosts never take them all. Others wait; four times as
    many names may be in the resolver, with the same share for each key, and more is a 429."""


class Files(Settings):
    folder: pathlib.Path | None = None
    """Where uploaded files are kept. Default: `$XDG_DATA_HOME/vlserve/files` (`~/.local/share/vlserve/files`)."""
    max_file_bytes: Annotated[ByteSize, Field(gt=0)] = ByteSize(100 * 1024**2)
    """Largest file; more is a 413."""
    max_files: Annotated[int, Field(gt=0)] = 1000
    """Files that one API key may have."""
    max_bytes: Annotated[ByteSize, Field(gt=0)] = ByteSize(2 * 1024**3)
    """Bytes of all files that one API key may have."""
    max_total_bytes: Annotated[ByteSize, Field(gt=0)] = ByteSize(20 * 1024**3)
    """Bytes of all files of all keys."""
    expires_after_s: Annotated[float, Field(gt=0)] = 30 * 24 * 3600.0
    """A file is removed after this long; a request may ask for less with `expires_after`."""


class Testgen(Settings):
    enabled: bool = True
    """Make tests of screenshots at `POST /v1/testgen`, where the extra `vlserve[testgen]` is installed."""
    run: bool = False
    """Run each finished test here, in a child process under limits. Default: pages are opened and looked at, and what
    is handed over was not run."""
    allowed_origins: WebOriginsOrAny = []
    """Pages that may be opened here, by their origin, e.g. `[https://staging.example.com]`, and what these may load
    from; `["*"]`: any public one. Default: none, and every test is a draft."""
    allowed_networks: list[IPvAnyNetwork] = []
    """Networks that are not public and whose pages may be opened all the same, e.g. `[10.1.0.0/16]`. Default: none."""
    max_concurrent: Annotated[int, Field(gt=0)] = 1
    """Tests made at once, each with a browser of its own; more is a 429."""
    timeout_s: Annotated[float, Field(gt=0)] = 300.0
    """Longest time to make one test; then it is a 504, or an error event in its stream, and all that was made of it is
    lost. One with repairs and many expectations may take minutes."""


class Config(Settings):
    server: Server = Server()
    log: Log = Log()
    tracing: Tracing = Tracing()
    request: Request = Request()
    image: Image = Image()
    video: Video = Video()
    image_overflow: Literal["reject", "keep_latest"] = "reject"
    """When a request has more pictures than `limit_mm_per_prompt`: `reject` is a 400; `keep_latest` puts a short text
    in the place of the oldest ones, and the header `x-vlserve-images-dropped` counts them."""
    fetch: Fetch = Fetch()
    files: Files = Files()
    testgen: Testgen = Testgen()
    auto_aliases: list[str] = []
    """More model names that mean `auto`, for clients that insist on one, e.g. `[gpt-4o]`."""
    fallback: Literal["vision"] | None = None
    """`vision`: text with model `auto` goes to the vision engine while the text engine is away."""
    engines: Engines

    @model_validator(mode="after")
    def _names_are_distinct(self) -> "Config":
        served = {settings.model_id for _, settings in self.engines.items()}
        if taken := served.intersection(self.auto_aliases):
            raise ValueError(f"auto_aliases: {sorted(taken)[0]!r} is the name of a model; an alias must be another one")
        if self.fallback and not (self.engines.text and self.engines.vision):
            raise ValueError("fallback needs both engines")
        return self
