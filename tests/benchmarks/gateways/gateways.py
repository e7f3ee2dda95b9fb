"""How each gateway of the benchmark is started in front of the mock engine."""

import pathlib
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tests.benchmarks.gateways.processes import KEY, Gateway, environment, free_port, run
from tests.conftest import REPOSITORY

ROUTER, LITELLM = "vllm-router==0.1.17", "litellm[proxy]==1.108.7"
Start = Callable[[str, pathlib.Path, pathlib.Path], AbstractContextManager[Gateway]]
"""(URL of the mock engine, its program, a folder) → a running gateway."""

_NGINX = """daemon off; pid nginx.pid; error_log stderr; worker_processes 1;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_max_body_size 64m; client_body_buffer_size 16m; keepalive_requests 1000000;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  upstream engine {{ server {engine}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
_LITELLM = """model_list:
  - model_name: mock
    litellm_params: {{model: openai/mock, api_base: "{engine}/v1", api_key: none}}
general_settings: {{master_key: {key}}}
"""
_SERVE = "import sys; from vlserve.cli import main; sys.exit(main())"
_VLSERVE = """server: {{api_keys_env: BENCH_KEYS, max_body_bytes: 64MiB, max_bodies_bytes: 2GiB}}
image: {{max_image_bytes: 20MiB}}
engines:
  text: &engine {{model: mock, served_model_name: mock-text, {engine}}}
  vision: {{model: mock, served_model_name: mock-vision, {engine}}}
auto_aliases: [mock]
"""


@contextmanager
def nginx(engine: str, _: pathlib.Path, folder: pathlib.Path) -> Iterator[Gateway]:
    port = free_port()
    (folder / "nginx.conf").write_text(_NGINX.format(engine=engine.removeprefix("http://"), port=port))
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    with run("nginx", [program, "-p", str(folder), "-c", "nginx.conf"], f"http://127.0.0.1:{port}", folder) as gateway:
        yield gateway


@contextmanager
def router(engine: str, _: pathlib.Path, folder: pathlib.Path) -> Iterator[Gateway]:
    programs, port, metrics = environment(folder.parent, "env-router", ROUTER), free_port(), free_port()
    argv = [str(programs / "vllm-router"), "--worker-urls", engine, "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--prometheus-port", str(metrics), "--api-key", KEY]
    with run("vllm-router", argv, f"http://127.0.0.1:{port}", folder) as gateway:
        yield gateway


@contextmanager
def litellm(engine: str, _: pathlib.Path, folder: pathlib.Path) -> Iterator[Gateway]:
    programs, port = environment(folder.parent, "env-litellm", LITELLM), free_port()
    (folder / "litellm.yaml").write_text(_LITELLM.format(engine=engine, key=KEY))
    argv = [str(programs / "litellm"), "--config", "litellm.yaml", "--host", "127.0.0.1", "--port", str(port)]
    with run("litellm", argv, f"http://127.0.0.1:{port}", folder, "/health/liveliness", NO_PROXY="*") as gateway:
        yield gateway


@contextmanager
def vlserve(engine: str, _: pathlib.Path, folder: pathlib.Path) -> Iterator[Gateway]:
    with _vlserve("vlserve", f'url: "{engine}"', folder) as gateway:
        yield gateway


@contextmanager
def vlserve_socket(_: str, mock: pathlib.Path, folder: pathlib.Path) -> Iterator[Gateway]:
    with _vlserve("vlserve, socket", f'command: [{mock}, unix, "{{uds}}"]', folder) as gateway:
        yield gateway


GATEWAYS: dict[str, Start] = {
    "nginx": nginx,
    "vllm-router": router,
    "vlserve": vlserve,
    "vlserve, socket": vlserve_socket,
    "litellm": litellm,
}


@contextmanager
def _vlserve(name: str, engine: str, folder: pathlib.Path) -> Iterator[Gateway]:
    """With keys, limits, metrics and its log as anyone runs it."""
    port, settings = free_port(), folder / "vlserve.yaml"
    settings.write_text(_VLSERVE.format(engine=engine))
    argv = [sys.executable, "-c", _SERVE, "serve", "--config", str(settings), "--port", str(port)]
    env = {"PYTHONPATH": str(REPOSITORY), "BENCH_KEYS": f"bench:{KEY}"}
    with run(name, argv, f"http://127.0.0.1:{port}", folder, "/ready?engine=all", **env) as gateway:
        yield gateway
