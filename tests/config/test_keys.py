"""API keys: what is read, what is refused, and that no key is stored."""

import hashlib
import pathlib

import pytest

from vlserve import cli
from vlserve.config import keys
from vlserve.config.keys import ApiKey
from vlserve.config.settings import KeySettings, Server
from vlserve.errors import ConfigError


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def test_keys_come_from_file_and_environment(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# people\nana: sha256:{digest('sk-1').hex()}\n\n  bo :  sha256:{digest('sk-2').hex()}  \n")
    server = Server(api_keys_file=file, api_keys_env="KEYS")
    found = keys.read(server, {"KEYS": f"ci:sk-3,sk-4,hashed:sha256:{digest('sk-5').hex()}"})
    expected = (("ana", "sk-1"), ("bo", "sk-2"), ("ci", "sk-3"), ("key2", "sk-4"), ("hashed", "sk-5"))
    assert found == tuple(ApiKey(name, digest(key)) for name, key in expected)
    assert "sk-3" not in repr(found)


def test_generated_key_is_accepted_with_its_printed_line(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["key", "ana"]) == 0
    printed = capsys.readouterr()
    key, line = printed.err.split()[-1], printed.out
    assert len(key) > 40
    assert key not in line
    file = tmp_path / "keys"
    file.write_text(line)
    assert keys.read(Server(api_keys_file=file), {}) == (ApiKey("ana", digest(key)),)


def test_byte_order_mark_of_an_editor_is_skipped(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"\ufeffana: sha256:{digest('sk-1').hex()}\n", encoding="utf-8")
    assert keys.read(Server(api_keys_file=file), {}) == (ApiKey("ana", digest("sk-1")),)


def test_plain_key_in_the_file_is_refused_with_the_line_to_write(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "keys"
    for plain in ("ana: sk-secret-1", "sk-secret-1"):
        file.write_text(plain)
        with pytest.raises(ConfigError) as error:
            keys.read(Server(api_keys_file=file), {})
        assert f"sha256:{digest('sk-secret-1').hex()}" in error.value.message
        assert "sk-secret-1" not in error.value.message


def test_configured_keys_that_are_missing_are_an_error(tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty").write_text("# nothing\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "ana").write_text(f"{keys.make('ana')[1]}\n")
    for server, environ, expected in (
        (Server(api_keys_file=tmp_path / "none"), {}, "cannot read .*`vlserve key NAME >> .*/none` makes it"),
        (Server(api_keys_file=tmp_path / "empty"), {}, "vlserve key NAME"),
        (Server(api_keys_file=tmp_path / "binary"), {}, "not UTF-8"),
        (Server(api_keys_env="KEYS"), {}, "holds no key"),
        (Server(api_keys_env="KEYS"), {"KEYS": "ana:"}, "no key"),
        (Server(api_keys_env="KEYS"), {"KEYS": "an a:sk-1"}, "letters, digits"),
        (
            Server(api_keys_env="KEYS", keys={"bo": KeySettings()}),
            {"KEYS": "ana:sk-1"},
            "server.keys.bo: .*add it to the variable KEYS",
        ),
        (
            Server(api_keys_file=tmp_path / "ana", keys={"bo": KeySettings()}),
            {},
            r"create it: vlserve key bo >> .*/ana\.",
        ),
        (Server(keys={"bo": KeySettings()}), {}, "server.keys.bo: .*set server.api_keys_file"),
    ):
        with pytest.raises(ConfigError, match=expected):
            keys.read(server, environ)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_public_address_needs_keys_or_consent(host: str) -> None:
    with pytest.raises(ConfigError, match="allow-unauthenticated"):
        keys.check_exposure(Server(host=host), ())
    keys.check_exposure(Server(host=host, allow_unauthenticated=True), ())
    keys.check_exposure(Server(host=host), (ApiKey("a", b""),))


@pytest.mark.parametrize("address", ["0.0.0.0:9400", "[::]:9400", "192.0.2.1:9400", "gpu-box.lan:9400"])
def test_public_address_of_metrics_needs_keys_or_consent(address: str) -> None:
    with pytest.raises(ConfigError, match=r"server\.metrics_listen .*allow-unauthenticated"):
        keys.check_exposure(Server(metrics_listen=address), ())
    keys.check_exposure(Server(metrics_listen=address, allow_unauthenticated=True), ())
    keys.check_exposure(Server(metrics_listen="[::1]:9400"), ())


def test_public_address_of_metrics_that_no_key_may_read_is_refused() -> None:
    found = (ApiKey("ana", b""), ApiKey("ops", b""))
    for more in ({}, {"keys": {"ana": {"max_in_flight": 1}}}, {"allow_unauthenticated": True}):
        with pytest.raises(ConfigError, match=r"^server\.metrics_listen 0\.0\.0\.0:9400 .*\{metrics: true\}"):
            keys.check_exposure(Server.model_validate({"metrics_listen": "0.0.0.0:9400", **more}), found)
    operator = {"ops": KeySettings(metrics=True)}
    keys.check_exposure(Server(metrics_listen="0.0.0.0:9400", keys=operator), found)
    keys.check_exposure(Server(metrics_listen="127.0.0.1:9400"), found)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.1"])
def test_loopback_needs_no_key(host: str) -> None:
    keys.check_exposure(Server(host=host), ())
