"""One OpenAI-style endpoint in front of two vLLM engines: ``text`` and ``vision``."""

from importlib.metadata import version

__version__ = version("vlserve")
