"""How long an engine may be silent before it counts as hung. Pure: no I/O."""

from dataclasses import dataclass

from vlserve.config.engine_settings import EngineSettings

_FIRST_USE_S = 600.0


@dataclass(frozen=True)
class HangLimits:
    """How many seconds an engine may be silent before it counts as hung."""

    usual_s: float
    first_use_s: float
    """In the first minutes after it became ready, while kernels are compiled and CUDA graphs captured on first use."""

    def at(self, ready_s: float) -> float:
        """The limit for a silence that began ``ready_s`` seconds after the engine became ready."""
        return self.first_use_s if ready_s < _FIRST_USE_S else self.usual_s


def hang_limits(settings: EngineSettings, *, is_cpu: bool) -> HangLimits | None:
    """Resolve ``hang_after_s``: a number applies from the start; None: hangs are not detected."""
    given = settings.hang_after_s
    if given is None:
        return None
    if given != "auto":
        return HangLimits(given, given)
    return HangLimits(30.0, 30.0) if is_cpu else HangLimits(120.0, 360.0)
