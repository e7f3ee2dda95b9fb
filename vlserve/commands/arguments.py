"""Argument parser: commands and options of ``vlserve``."""

import argparse
import pathlib
from collections.abc import Callable
from typing import Any, TypeAlias

from vlserve import __version__

Commands: TypeAlias = "argparse._SubParsersAction[Any]"


class _CommandParser(argparse.ArgumentParser):
    """Reports unknown arguments itself, with the usage of its command; argparse would print that of ``vlserve``."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown


def make_parser(add_testgen: Callable[[argparse.ArgumentParser], None]) -> argparse.ArgumentParser:
    """Create the parser. ``add_testgen`` adds the options of ``vlserve testgen``."""
    parser = argparse.ArgumentParser(prog="vlserve", description="One OpenAI-style endpoint, two vLLM engines.")
    parser.add_argument("--version", action="version", version=f"vlserve {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_CommandParser)
    configured = argparse.ArgumentParser(add_help=False)
    configured.add_argument(
        "--config",
        type=pathlib.Path,
        help="YAML file, or a name in configs/ (default: default.yaml; on one GPU below 80 GB: vision-only.yaml)",
    )
    _add_service(commands, configured)
    _add_clients(commands, configured, add_testgen)
    key = commands.add_parser("key", help="create an API key and its line for the key file")
    key.add_argument("name", help="name of the key in logs and metrics")
    return parser


def _add_service(commands: Commands, configured: argparse.ArgumentParser) -> None:
    """Add the commands that start the service or check whether it would start."""
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
        help="print the engines that serve would start, and their memory; exit code 2: serve would refuse the config",
    )
    planned.add_argument("--machine", help="plan for another machine, like 1xH100-80G, 2x24G or 8xA100-80G")
    fetched = commands.add_parser("fetch", parents=[configured], help="download the models without starting engines")
    fetched.add_argument(
        "engine", nargs="?", choices=["text", "vision"], help="only this engine's model (default: all)"
    )
    fetched.add_argument(
        "--from", dest="source", choices=["huggingface", "modelscope"], help="default: huggingface, as in vLLM"
    )
    fetched.add_argument("--verify", action="store_true", help="also verify the checksums of existing files")
    commands.add_parser(
        "doctor", parents=[served], help="look for problems that would prevent serving; exit code 1: there are some"
    )


def _add_clients(
    commands: Commands, configured: argparse.ArgumentParser, add_testgen: Callable[[argparse.ArgumentParser], None]
) -> None:
    """Add the commands that send requests to a running service."""
    smoked = commands.add_parser(
        "smoke",
        parents=[configured],
        help="ask a running service five questions with known answers",
        description="A fact, a picture, a tool call, a box and a stream. Exit code 0: all are right, 1: not all. "
        "An API key is read from VLSERVE_API_KEY.",
    )
    smoked.add_argument("--base-url", help="the running service (default: http:// host and port of the config)")
    smoked.add_argument("--timeout", type=float, default=120, help="seconds for each answer (default: 120)")
    compared = commands.add_parser(
        "compare",
        parents=[configured],
        help="check a running service against a reference, token by token",
        description="Exit code 0: equal, 1: not equal. An API key is read from VLSERVE_API_KEY.",
    )
    compared.add_argument("--reference", choices=["transformers"], default="transformers")
    compared.add_argument("--base-url", help="the running service (default: http:// host and port of the config)")
    compared.add_argument("--device", default="cpu", help="device of the reference: cpu, cuda:1 … (default: cpu)")
    compared.add_argument("--tolerance", type=float, help="for log-probabilities (default: 0.001; with 16 bits: 0.3)")
    batched = commands.add_parser(
        "batch",
        parents=[configured],
        help="send the requests in a file to a running service",
        description="Run the same command again to resume. Exit code 0: all requests were answered, 1: some failed, "
        "2: the arguments or the input are invalid. An API key is read from VLSERVE_API_KEY.",
    )
    batched.add_argument("input", type=pathlib.Path, help="JSON Lines with requests, as in OpenAI's Batch API")
    batched.add_argument("-o", "--output", type=pathlib.Path, required=True, help="file to append the answers to")
    batched.add_argument("--base-url", help="the running service (default: http:// host and port of the config)")
    batched.add_argument("--concurrency", type=int, default=32, help="concurrent requests (default: 32)")
    add_testgen(
        commands.add_parser(
            "testgen",
            parents=[configured],
            help="generate a UI test from a screenshot and run it",
            description="Exit code 0: the test passed or is a draft; 1: it failed or was not generated; 2: invalid "
            "arguments; 3: it passed, but does not do all of the scenario. An API key is read from VLSERVE_API_KEY. "
            "Needs the extra testgen: pip install '.[testgen]' in the folder of vlserve's repository.",
        )
    )
