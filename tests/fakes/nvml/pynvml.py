"""Stands in for nvidia-ml-py on PYTHONPATH: one GPU of 80 GiB, of which 70 are used."""

from types import SimpleNamespace


class NVMLError(Exception):
    pass


def nvmlInit() -> None:  # noqa: N802
    pass


def nvmlShutdown() -> None:  # noqa: N802
    pass


def nvmlDeviceGetCount() -> int:  # noqa: N802
    return 1


def nvmlDeviceGetHandleByIndex(number: int) -> int:  # noqa: N802
    return number


def nvmlDeviceGetMemoryInfo(_: int) -> SimpleNamespace:  # noqa: N802
    return SimpleNamespace(total=80 * 1024**3, used=70 * 1024**3, free=10 * 1024**3)
