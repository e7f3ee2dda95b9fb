"""The command line's commands and options."""

import argparse
import pathlib
from collections.abc import Callable
from typing import TypeAlias

from vlserve import __version__

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def make_parser(add_testgen: Callable[[argparse.ArgumentParser], None]) -> argparse.ArgumentParser:
    """``add_testgen`` adds the options of ``vlserve testgen`` to its parser."""
    parser = argparse.ArgumentParser(prog="vlserve", description="One OpenAI-style endpoint, two vLLM engines.")
    parser.add_argument("--version", action="version", version=f"vlserve {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    configured = argparse.ArgumentParser(add_help=False)
    configured.add_argument(
        "--config",
        type=pathlib.Path,
        help="YAML file, or the name of one in configs/ (default: default.yaml; on a single GPU vision-only.yaml)",
    )
    _add_service(commands, configured)
    _add_clients(commands, configured, add_testgen)
    key = commands.add_parser("key", help="make an API key, and its line for the file of keys")
    key.add_argument("name", help="whose key it is; in the log and the metrics")
    return parser


def _add_service(commands: Commands, configured: argparse.ArgumentParser) -> None:
    """What starts the service, or is about how it would start here."""
    served = argparse.ArgumentParser(add_help=False, parents=[configured])
    served.add_argument("--host", help="address to listen on (default: the config's, 127.0.0.1)")
    served.add_argument("--api-keys-env", metavar="NAME", help="environment variable with comma-separated API keys")
    served.add_argument("--port", type=int, help="TCP port (default: the config's, 8000)")
    served.add_argument(
        "--allow-unauthenticated", action="store_true", default=None, help="serve a public address without API keys"
    )
    commands.add_parser("serve", parents=[served], help="start the engines and the endpoint")
    planned = commands.add_parser(
        "plan",
        parents=[served],
        help="print what serve would start and what it takes, and start nothing; exit code 2: serve would refuse it",
    )
    planned.add_argument("--machine", help="plan for another machine, like 1xH100-80G, 2x24G or 8xA100-80G")
    fetched = commands.add_parser("fetch", parents=[configured], help="download the engines' models, and start nothing")
    fetched.add_argument("engine", nargs="?", choices=["text", "vision"], help="only this one's (default: every one's)")
    fetched.add_argument(
        "--from", dest="source", choices=["huggingface", "modelscope"], help="default: huggingface, as vLLM itself"
    )
    fetched.add_argument("--verify", action="store_true", help="compare what is there already with its checksums, too")
    commands.add_parser(
        "doctor", parents=[served], help="look for what would keep serve from working; exit code 1: something would"
    )


def _add_clients(
    commands: Commands, configured: argparse.ArgumentParser, add_testgen: Callable[[argparse.ArgumentParser], None]
) -> None:
    """What asks a running service."""
    compared = commands.add_parser(
        "compare",
        parents=[configured],
        help="check a running service against a reference, token by token",
        description="Exit code 0: equal, 1: not equal. An API key is read from VLSERVE_API_KEY.",
    )
    compared.add_argument("--reference", choices=["transformers"], default="transformers")
    compared.add_argument("--base-url", help="the running service (default: http:// host and port of the config)")
    compared.add_argument("--device", default="cpu", help="where the reference computes: cpu, cuda:1 … (default: cpu)")
    compared.add_argument("--tolerance", type=float, help="of log-probabilities (default: 0.001; 16 bits: 0.3)")
    batched = commands.add_parser(
        "batch",
        parents=[configured],
        help="ask a running service every request of a file",
        description="The same command again goes on where it ended. Exit code 0: all lines are answered, 1: some "
        "failed, 2: the command or its input cannot work. An API key is read from VLSERVE_API_KEY.",
    )
    batched.add_argument("input", type=pathlib.Path, help="requests, one in a line, in the form of OpenAI's Batch API")
    batched.add_argument("-o", "--output", type=pathlib.Path, required=True, help="file that answers are appended to")
    batched.add_argument("--base-url", help="the running service (default: http:// host and port of the config)")
    batched.add_argument("--concurrency", type=int, default=32, help="requests under way at once (default: 32)")
    add_testgen(
        commands.add_parser(
            "testgen",
            parents=[configured],
            help="write a UI test from a screenshot, and try it",
            description="Exit code 0: the test passed, or is a draft; 1: it failed, or there is none; 2: the command "
            "cannot work; 3: it passed, but does not do all of the scenario. An API key is read from VLSERVE_API_KEY. "
            "Needs vlserve[testgen].",
        )
    )
