"""The systemd unit: `systemd-analyze verify`, and its command and environment run with a stand-in for systemd's socket.

systemd itself does not run here, so neither does the unit's sandbox.
"""

import configparser
import os
import pathlib
import re
import signal
import subprocess
from typing import Any

import pytest

from tests.commands.test_service_notify import Receiver
from tests.conftest import until
from tests.deploy.files import DEPLOY, program, read
from tests.reliability.service import fakes, serve
from vlserve.commands import startup_checks
from vlserve.commands.arguments import make_parser
from vlserve.config import load as config
from vlserve.errors import ConfigError
from vlserve.testgen import command

FOLDER = DEPLOY / "systemd"
TEXT = (FOLDER / "vlserve.service").read_text()
KEYS = {"VLSERVE_KEYS": "ana:sk-1,prometheus:sk-2"}


class _Repeated(dict[str, Any]):
    """Joins the values of a repeated setting."""

    def __setitem__(self, name: str, value: Any) -> None:
        if isinstance(value, list) and name in self:
            value = [*self[name], *value]
        super().__setitem__(name, value)


def service_section() -> Any:
    parser = configparser.ConfigParser(dict_type=_Repeated, strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment]  # systemd's names have upper case
    parser.read_string(TEXT)
    return parser["Service"]


SERVICE = service_section()


def environment() -> dict[str, str]:
    return dict(one.split("=", 1) for one in SERVICE["Environment"].split())


def analyze(folder: pathlib.Path, text: str) -> str:
    """Return what systemd-analyze reports about a unit whose program and folders exist."""
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    text = re.sub("/opt/vlserve/bin/vlserve|/usr/bin/nvidia-modprobe", "/bin/true", text).replace(
        "=vlserve\n", f"={user}\n"
    )
    (folder / "vlserve.service").write_text(text)
    arguments = [program("systemd-analyze"), "verify", "--man=no", str(folder / "vlserve.service")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    return "".join(line for line in done.stderr.splitlines(keepends=True) if "vlserve.service" in line)


def test_systemd_accepts_the_unit_and_reports_an_unknown_setting(tmp_path: pathlib.Path) -> None:
    assert analyze(tmp_path, TEXT) == ""
    assert "'KillMod'" in analyze(tmp_path, TEXT.replace("KillMode", "KillMod"))


def test_unit_fits_the_settings_and_exit_codes() -> None:
    arguments = make_parser(command.add_arguments).parse_args(SERVICE["ExecStart"].split()[1:])
    assert (arguments.command, arguments.config) == ("serve", pathlib.Path("/etc/vlserve/vlserve.yaml"))
    settings = config.load(FOLDER / "vlserve.yaml")
    [line] = [one for one in (FOLDER / "keys.env").read_text().splitlines() if not one.startswith("#")]
    name, _, value = line.partition("=")
    with pytest.raises(ConfigError, match=name):  # no key that everyone knows
        startup_checks.check(settings, {name: value})
    assert {key.name for key in startup_checks.check(settings, KEYS).api_keys} == {"ana", "prometheus"}
    assert set(KEYS) == {name}
    assert int(SERVICE["TimeoutStopSec"]) > settings.server.shutdown_grace_s + 5
    starts_s = 3600 * int(SERVICE["TimeoutStartSec"].removesuffix("h"))
    assert starts_s > max(engine.ready_timeout_s for _, engine in settings.engines.items())
    assert SERVICE["KillMode"] == "mixed"
    assert SERVICE["RestartPreventExitStatus"] == "2 3"


def test_caches_are_in_folders_that_the_unit_may_write() -> None:
    writable = (f"/var/lib/{SERVICE['StateDirectory']}", f"/var/cache/{SERVICE['CacheDirectory']}")
    assert all(path.startswith(writable) for path in environment().values())
    dockerfile = (DEPLOY.parents[1] / "Dockerfile").read_text()
    assert {name for name in environment() if f"{name}=/cache" in dockerfile} == set(environment())


async def test_service_reports_ready_and_stopping_to_systemd(short_folder: pathlib.Path) -> None:
    """As the unit starts it: Type=notify, its environment with folders under a temporary one, and its settings."""
    assert SERVICE["Type"] == "notify"
    receiver = Receiver(address := str(short_folder / "notify"))
    moved = {name: path.replace("/var", str(short_folder)) for name, path in environment().items()}
    for path in moved.values():
        pathlib.Path(path).mkdir(parents=True, exist_ok=True)
    settings = read(FOLDER / "vlserve.yaml")
    environ = {**moved, **KEYS, "NOTIFY_SOCKET": address}
    async with serve(short_folder / "s", fakes(), environ, server=settings["server"]) as service:
        await until(receiver.has("READY=1"))
        os.kill(service.process.pid, signal.SIGTERM)
        await until(receiver.has("STOPPING=1"))
        assert await service.process.wait() == 0
    receiver.close()
