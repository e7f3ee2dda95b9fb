"""Settings: every mistake gets a line that helps, every setting is documented, every shipped config works."""

import json
import os
import pathlib
from collections.abc import Iterator

import pytest

from tests.conftest import REPOSITORY
from vlserve import config
from vlserve.errors import ConfigError
from vlserve.settings import Config, Engines, EngineSettings, Settings, settings_type

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
        ("server: {zzz: 1}\nengines: {text: {model: x}}", "Settings here: allow_unauthenticated, api_keys_env"),
        ("engines: {text: {model: x}}\nengines: {text: {model: y}}", "'engines' is given twice"),
        ("server: {keys: {ana: {max_in_flite: 1}}}\nengines: {text: {model: x}}", "Did you mean max_in_flight"),
        (
            "engines: {text: {model: x, hang_after_s: never}}",
            "engines.text.hang_after_s: 'never' is neither seconds, more than 0, nor auto, nor null",
        ),
        ("engines: {text: {model: x, hang_after_s: 0}}", "engines.text.hang_after_s: 0 is neither seconds"),
        ("engines: {}", "at least one engine is needed"),
        ("engines: {text: {}}", "engines.text.model: Field required"),
        ("engines: {text: {model: x, tensor_parallel_size: 0}}", "greater than or equal to 1"),
        (
            "engines: {text: {model: x, tensor_parallel_size: 2, gpus: [0]}}",
            "gpus names 1 GPUs but tensor_parallel_size is 2",
        ),
        ("engines: {text: {model: x, limit_mm_per_prompt: {video: 2}}}", "engines.text.limit_mm_per_prompt.video"),
        ("engines: {text: {model: x}, vision: {model: x}}", "both engines are called 'x'"),
        ("engines: {text: {model: auto}}", "is the name for automatic routing"),
        ("engines: {text: {model: x, url: host:80}}", "url must start with http"),
        ("engines: {text: {model: x, url: http://h, command: [a]}}", "not both"),
        ("engines: {text: {model: x, url_api_key_env: K}}", "belongs to url"),
        ("engines: {text: {model: x, url: http://h/v1}}", "without /v1"),
        ("engines: {text: {model: x}}\nauto_aliases: [x]", "'x' is the name of a model"),
        ("engines: {text: {model: x}}\nfallback: vision", "fallback needs both engines"),
        ("engines: {text: {model: x}}\nserver: foo", "server: Input should be"),
        (
            "engines: {text: {model: x}}\ntestgen: {allowed_origins: [https://a.com/b]}",
            "testgen.allowed_origins: 'https://a.com/b' is not an origin. Write it like https://example.com",
        ),
        ("- a", "must hold settings"),
        ("a: b: c", "is not YAML"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: pathlib.Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text, port=1)
    assert expected in error.value.message


def test_missing_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        config.load(tmp_path / "none.yaml")


def test_folders_are_relative_to_the_file_and_named_by_their_last_part(tmp_path: pathlib.Path) -> None:
    settings = load(tmp_path, "engines: {text: {model: ./a/my-model}, vision: {model: org/b}}")
    assert settings.engines.text
    assert settings.engines.vision
    assert settings.engines.text.model == str(tmp_path / "a" / "my-model")
    assert (settings.engines.text.model_id, settings.engines.vision.model_id) == ("my-model", "org/b")


def test_command_line_wins_over_the_file(tmp_path: pathlib.Path) -> None:
    text = "server: {port: 1, host: 0.0.0.0}\nengines: {text: {model: x}}"
    assert load(tmp_path, text, port=2, host=None).server.port == 2
    assert load(tmp_path, text, port=2, host=None).server.host == "0.0.0.0"


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
    assert set(config.engine_environment(environ)) == {
        *("PATH", "HF_TOKEN", "HTTPS_PROXY", "CUDA_HOME", "NCCL_DEBUG", "LD_LIBRARY_PATH")
    }


def settings_rows(model: type[Settings], prefix: str = "") -> Iterator[str]:
    """A Markdown table row for each setting."""
    for name, field in model.model_fields.items():
        inner = None if field.default == {} else settings_type(field.annotation)
        if inner is Engines:
            yield from settings_rows(EngineSettings, "engines.*.")
        elif inner and inner is not EngineSettings:
            yield from settings_rows(inner, f"{prefix}{name}.")
        else:
            default = "required" if field.is_required() else f"`{_shown(field.default)}`"
            yield f"| `{prefix}{name}` | {default} | {' '.join((field.description or '').split())} |"


def _shown(value: object) -> str:
    if isinstance(value, int) and value >= 1024**2 and value % 1024**2 == 0:
        return f"{value // 1024**2}MiB"
    return value if isinstance(value, str) else json.dumps(value)


def test_every_setting_is_documented_with_its_default() -> None:
    """Run with UPDATE_DOCS=1 to write the table anew from the descriptions in settings.py."""
    begin, end = "<!-- settings -->\n", "<!-- /settings -->\n"
    table = "| setting | default | meaning |\n|---|---|---|\n" + "\n".join(settings_rows(Config)) + "\n"
    before, _, rest = DOCUMENT.read_text().partition(begin)
    written, _, after = rest.partition(end)
    if os.environ.get("UPDATE_DOCS"):
        DOCUMENT.write_text(before + begin + table + end + after)
    else:
        assert written == table
