"""Settings: mistakes are explained, every setting is documented, every shipped config is valid."""

import itertools
import json
import os
import pathlib
from collections.abc import Iterator

import pytest

from tests.conftest import REPOSITORY
from vlserve.config import load as config
from vlserve.config.engine_settings import EngineSettings
from vlserve.config.environment import engine_environment
from vlserve.config.settings import Config
from vlserve.config.settings_base import Settings, settings_type
from vlserve.errors import ConfigError

DOCUMENT = REPOSITORY / "docs" / "configuration.md"


def load(folder: pathlib.Path, text: str, **overrides: object) -> Config:
    path = folder / "c.yaml"
    path.write_text(text)
    return config.load(path, **overrides)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("engines: {text: {modle: x}}", "engines.text.modle: there is no such setting. Did you mean model?"),
        ("engines: {text: {model: x, max_num_seq: 3}}", "Did you mean max_num_seqs?"),
        ("engines: {text: {model: x, limit_mm_per_prompt: {images: 3}}}", "Did you mean image?"),
        ("engines: {txt: {model: x}}", "engines.txt: there is no such setting. Did you mean text?"),
        ("engine: {text: {model: x}}", "Did you mean engines?"),
        (
            "server: {zzz: 1}\nengines: {text: {model: x}}",
            "Settings here: allow_unauthenticated, allowed_hosts, api_keys_env",
        ),
        ("engines: {text: {model: x}}\nengines: {text: {model: y}}", "'engines' is given twice"),
        ("server: {keys: {ana: {max_in_flite: 1}}}\nengines: {text: {model: x}}", "Did you mean max_in_flight"),
        (
            "engines: {text: {model: x, hang_after_s: never}}",
            "engines.text.hang_after_s: 'never': write seconds (more than 0), auto, or null for never",
        ),
        ("engines: {text: {model: x, hang_after_s: 0}}", "engines.text.hang_after_s: 0: write seconds (more than 0)"),
        (
            "engines: {text: {model: x}, share: {text: 0.7}}",
            "engines.share: text 0.7 and vision 0.5 must add up to 1",
        ),
        ("engines: {text: {model: x}, mps: on}", "engines.mps: Input should be 'auto' or 'off'"),
        ("engines: {}", "at least one engine is needed"),
        ("engines: {text: {}}", "engines.text.model: Field required"),
        ("engines: {text: {model: x, tensor_parallel_size: 0}}", "greater than or equal to 1"),
        (
            "engines: {text: {model: x, tensor_parallel_size: 2, gpus: [0]}}",
            "gpus names 1 GPUs but tensor_parallel_size is 2",
        ),
        ("engines: {text: {model: x, limit_mm_per_prompt: {video: 2}}}", "engines.text.limit_mm_per_prompt.video"),
        ("engines: {text: {model: x}, vision: {model: x}}", "both engines have the name 'x'"),
        ("engines: {text: {model: auto}}", "is reserved for automatic routing"),
        ("engines: {text: {model: models/demo/text}}", "a folder begins with / or ./"),
        ("engines: {text: {model: ~/text}}", "a folder begins with / or ./"),
        ("engines: {text: {model: 'https://hub.example/org/text'}}", "is not the name of a model on a hub"),
        ("engines: {text: {model: t, max_model_len: auto}}", "write tokens; `vlserve plan` names the most that fit"),
        ("engines: {text: {model: x, url: host:80}}", "url must start with http"),
        ("engines: {text: {model: x, url: http://h, command: [a]}}", "not both"),
        ("engines: {text: {model: x, url_api_key_env: K}}", "url_api_key_env needs url"),
        ("engines: {text: {model: x, url: http://h/v1}}", "without /v1"),
        ("engines: {text: {model: x}}\nauto_aliases: [x]", "'x' is the name of a model"),
        ("engines: {text: {model: x}}\nfallback: vision", "fallback needs both engines"),
        ("engines: {text: {model: x}}\nserver: foo", "server: Input should be"),
        (
            "engines: {text: {model: x}}\ntestgen: {allowed_origins: [https://a.com/b]}",
            "testgen.allowed_origins: 'https://a.com/b' is not an origin. Write it like https://example.com",
        ),
        (
            "engines: {text: {model: x}}\nserver: {public_origins: ['https://x/']}",
            "server.public_origins: 'https://x/' is not an origin. Write it like https://example.com or "
            "http://10.1.2.3:8080, without a path or a trailing slash",
        ),
        (
            "engines: {text: {model: x}}\nserver: {metrics_listen: 9400}",
            "server.metrics_listen: 9400 is not an address to listen on. Write it like 127.0.0.1:9400",
        ),
        ("- a", "must contain settings"),
        ("a: b: c", "is not YAML"),
    ],
)
def test_mistakes_are_reported_with_their_place(tmp_path: pathlib.Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text, port=1)
    assert expected in error.value.message


def nested_aliases(last: str) -> str:
    """A few lines that stand for 9^9 values."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for before, name in itertools.pairwise("abcdefghi"):
        lines.append(f"{name}: &{name} {last.replace('*', ', '.join([f'*{before}'] * 9))}")
    return "\n".join(lines)


ONE = "engines: {text: {model: x}}\n"


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("? [a, b]\n: 1\n" + ONE, 1, "a key must be text, not a sequence"),
        ("{[a]: 1}", 1, "a key must be text, not a sequence"),
        ("engines: {text: {model: x, env: {? {a: b} : c}}}", 1, "a key must be text, not a mapping"),
        ("engines: {text: &a {? [b] : c}}\nbase: {<<: *a}", 1, "a key must be text, not a sequence"),
        (ONE + "1: a\n0x1: b", 2, "a key must be text; write '1' in quotes"),
        (ONE + "on: a\ntrue: b", 2, "a key must be text; write 'on' in quotes"),
        (ONE + "2024-01-01: a", 2, "a key must be text; write '2024-01-01' in quotes"),
        (ONE + "~: a", 2, "a key must be text; write '~' in quotes"),
        (ONE + "? !!binary aGVsbG8=\n: 1", 2, "a key must be text"),
        (ONE + "'engines': {text: {model: y}}", 2, "'engines' is given twice"),
        ("engines:\n  text: &a {model: x}\n  vision: {<<: *a, <<: *a}", 3, "'<<' is given twice"),
        ("engines: {text: {<<: 3}}", 1, "expected a mapping or list of mappings for merging"),
        ("engines: {text: {<<: [3]}}", 1, "expected a mapping for merging"),
        ("engines: &a {text: *a}", 1, "*a refers to a value that contains it"),
        ("engines: &a {<<: *a, text: {model: x}}", 1, "*a refers to a value that contains it"),
        (ONE + "auto_aliases: &a [*a]", 2, "*a refers to a value that contains it"),
        ("? &a [*a]\n: 1", 1, "*a refers to a value that contains it"),
        ("engines: *a", 1, "undefined alias 'a'"),
        (nested_aliases("[*]"), 5, "there are more than 10000 values"),
        (nested_aliases("{<<: [*]}"), 5, "there are more than 10000 values"),
        ("a: " + "[" * 3000 + "]" * 3000, 1, "there are more than 50 levels"),
        ("a: " + "{a: " * 3000 + "1" + "}" * 3000, 1, "there are more than 50 levels"),
        ("engines:\n\ttext: {model: x}", 2, "found character '\\t'"),
        (ONE + "server: {port: " + "9" * 5000 + "}", 2, "cannot be read as int"),
        (ONE + "server: {port: !!int abc}", 2, "'abc' cannot be read as int"),
        (ONE + "server: {port: !!int ''}", 2, "'' cannot be read as int"),
        (ONE + "server: {port: 0x_}", 2, "'0x_' cannot be read as int"),
        (ONE + "server: {port: !!float abc}", 2, "'abc' cannot be read as float"),
        (ONE + "server: {port: !!bool abc}", 2, "'abc' cannot be read as bool"),
        (ONE + "server: {host: 2024-13-45}", 2, "'2024-13-45' cannot be read as timestamp"),
        (ONE + "server: {host: !!timestamp abc}", 2, "'abc' cannot be read as timestamp"),
        (ONE + "server: {host: !!binary é}", 2, "failed to convert base64 data"),
        (ONE + "server: !!set [b]", 2, "expected a mapping node"),
        (ONE + "server: !!python/object/apply:os.system ['true']", 2, "could not determine a constructor"),
        (ONE + 'server: {host: "\\UFFFFFFFF"}', 2, "Python int too large"),
        (ONE + 'server: {api_keys_file: "a\\0b"}', 2, "must not contain the character NUL"),
        ('engines: {text: {model: "\\ud83d\\ude00"}}', 1, "half of a surrogate pair"),
        (ONE + "---\n" + ONE, 2, "found another document"),
    ],
)
def test_invalid_yaml_is_refused_with_its_line(tmp_path: pathlib.Path, text: str, line: int, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text)
    assert expected in error.value.message
    assert f'in "c.yaml", line {line}, column' in error.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "must contain settings"),
        ("# nothing\n", "must contain settings"),
        ("---\n", "must contain settings"),
        ("~", "must contain settings"),
        (ONE + "server: {port: 0x" + "f" * 5000 + "}", "server.port: Input should be"),
        (ONE + "server: {host: [0x" + "f" * 5000 + "]}", "(got a number with too many digits)"),
        (ONE + "server: {host: [" + "a, " * 5000 + "]}", "…)"),
        (ONE + "server: {port: .nan}", "server.port: Input should be a finite number"),
        (ONE + "server: {shutdown_grace_s: .inf}", "server.shutdown_grace_s: Input should be a finite number"),
        ("engines: !!set {text}", "engines: Input should be a valid dictionary"),
        ("a: \0", 'special characters are not allowed\n  in "c.yaml"'),
    ],
)
def test_unreadable_files_are_refused_with_a_short_message(tmp_path: pathlib.Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text)
    assert expected in error.value.message
    assert len(error.value.message) < 1000


def test_aliases_and_merges_work(tmp_path: pathlib.Path) -> None:
    text = """
server:
  keys:
    ana: &a {max_in_flight: 1, requests_per_minute: 60}
    ben: &b {<<: *a, max_in_flight: 2}
    eve: {<<: [*b, *a], max_in_flight: 3}
engines:
  text: &text {model: x}
  vision: {<<: *text, "model": y}
...
"""
    settings = load(tmp_path, "\ufeff" + text)
    limits = [(one.max_in_flight, one.requests_per_minute) for one in settings.server.keys.values()]
    assert limits == [(1, 60), (2, 60), (3, 60)]
    assert [engine.model for _, engine in settings.engines.items()] == ["x", "y"]


def test_missing_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        config.load(tmp_path / "none.yaml")


def test_folders_are_relative_to_the_file_and_named_by_their_last_part(tmp_path: pathlib.Path) -> None:
    settings = load(tmp_path, "engines: {text: {model: ./a/my-model}, vision: {model: org/b}}")
    assert settings.engines.text
    assert settings.engines.vision
    assert settings.engines.text.model == str(tmp_path / "a" / "my-model")
    assert (settings.engines.text.model_id, settings.engines.vision.model_id) == ("my-model", "org/b")


def test_folder_written_like_the_name_of_a_model_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "org" / "text").mkdir(parents=True)
    assert load(tmp_path, "engines: {text: {model: org/text}}")
    (tmp_path / "org" / "text" / "config.json").touch()
    with pytest.raises(ConfigError, match=r"engines\.text\.model: .* write \./org/text"):
        load(tmp_path, "engines: {text: {model: org/text}}")
    assert load(tmp_path, "engines: {text: {model: ./org/text}}")
    assert load(tmp_path, "engines: {text: {model: org/text, url: http://h}}")
    assert load(tmp_path, f"engines: {{text: {{model: {'x' * 300}}}}}")


def test_command_line_overrides_the_file(tmp_path: pathlib.Path) -> None:
    text = "server: {port: 1, host: 0.0.0.0}\nengines: {text: {model: x}}"
    assert load(tmp_path, text, port=2, host=None).server.port == 2
    assert load(tmp_path, text, port=2, host=None).server.host == "0.0.0.0"
    with pytest.raises(ConfigError, match=r"c\.yaml with --port is not valid:\n  server\.port: .* \(got 80000\)"):
        load(tmp_path, text, port=80000)


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_config_works(path: pathlib.Path) -> None:
    assert config.load(path).engines.items()


def test_default_config_serves_the_two_models() -> None:
    engines = config.load(config.shipped("default.yaml")).engines
    assert engines.text
    assert engines.vision
    assert engines.text.model_id == "Qwen/Qwen2.5-7B-Instruct"
    assert engines.vision.model_id == "Qwen/Qwen2.5-VL-7B-Instruct"


def test_engines_inherit_an_allow_list_only() -> None:
    environ = {
        "PATH": "/bin",
        "HF_TOKEN": "t",
        "HTTPS_PROXY": "p",
        "CUDA_HOME": "c",
        "NCCL_DEBUG": "1",
        "LD_LIBRARY_PATH": "l",
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_USE_V1": "0",
        "AWS_SECRET": "s",
        "VLSERVE_KEYS": "k",
        "PYTHONSTARTUP": "x",
    }
    assert set(engine_environment(environ)) == {
        *("PATH", "HF_TOKEN", "HTTPS_PROXY", "CUDA_HOME", "NCCL_DEBUG", "LD_LIBRARY_PATH")
    }


def settings_rows(model: type[Settings], prefix: str = "") -> Iterator[str]:
    """A Markdown table row for each setting."""
    for name, field in model.model_fields.items():
        inner = None if field.default == {} else settings_type(field.annotation)
        if inner is EngineSettings:
            if name == "text":
                yield from settings_rows(EngineSettings, f"{prefix}*.")
        elif inner:
            yield from settings_rows(inner, f"{prefix}{name}.")
        else:
            default = "required" if field.is_required() else f"`{_shown(field.default)}`"
            yield f"| `{prefix}{name}` | {default} | {' '.join((field.description or '').split())} |"


def _shown(value: object) -> str:
    if isinstance(value, int) and value >= 1024**2 and value % 1024**2 == 0:
        return f"{value // 1024**2}MiB"
    return value if isinstance(value, str) else json.dumps(value)


def test_every_setting_is_documented_with_its_default() -> None:
    """Run with UPDATE_DOCS=1 to write the table anew from the descriptions in the settings' classes."""
    begin, end = "<!-- settings -->\n", "<!-- /settings -->\n"
    table = "| setting | default | meaning |\n|---|---|---|\n" + "\n".join(settings_rows(Config)) + "\n"
    before, _, rest = DOCUMENT.read_text().partition(begin)
    written, _, after = rest.partition(end)
    if os.environ.get("UPDATE_DOCS"):
        DOCUMENT.write_text(before + begin + table + end + after)
    else:
        assert written == table
