"""One OpenAI-style endpoint in front of two vLLM engines: ``text`` and ``vision``."""

__version__ = "0.1.0"
