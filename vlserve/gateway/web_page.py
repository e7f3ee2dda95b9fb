"""The chat page at ``/``: one HTML document with inline styles and scripts, and a Content-Security-Policy for them.

The sources are in ``web/``. The page loads nothing else and sends requests to this service only.
"""

import base64
import hashlib
import importlib.resources
import re
from dataclasses import dataclass

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response

_LIBRARIES = ("vendor/purify.min.js", "vendor/marked.umd.js")
# Concatenated to one module, whose names are not global.
_OWN_SCRIPTS = ("store.js", "api.js", "answer.js", "testgen.js", "page.js")
# With these comments a browser's developer tools would request the source maps.
_SOURCE_MAP = re.compile(r"^//# sourceMappingURL=.*$", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    text: str
    policy: str
    """The Content-Security-Policy."""

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256((self.policy + self.text).encode()).hexdigest()[:32]}"'


def build(*, needs_key: bool = False, testgen: str = "off") -> Page:
    """Build the page. ``needs_key``: it asks for an API key at once instead of after the first 401.

    ``testgen`` is what ``/v1/testgen`` does with a page's URL: ``run`` the test there, only ``open`` the page, or
    neither (``draft``). With ``off`` the page does not offer tests.
    """
    folder = importlib.resources.files("vlserve.gateway") / "web"
    styles = _inline((folder / "page.css").read_text("utf-8"))
    libraries = [_inline((folder / name).read_text("utf-8")) for name in _LIBRARIES]
    module = _inline("".join((folder / name).read_text("utf-8") for name in _OWN_SCRIPTS))
    scripts = [f"<script>{text}</script>" for text in libraries] + [f'<script type="module">{module}</script>']
    parts = {
        "needs-key": "true" if needs_key else "false",
        "testgen": testgen,
        "styles": f"<style>{styles}</style>",
        "scripts": "\n".join(scripts),
    }
    skeleton = (folder / "page.html").read_text("utf-8")
    text = re.sub(r"\{\{([a-z-]+)\}\}", lambda match: parts[match[1]], skeleton)
    return Page(text, _policy(styles, *libraries, module))


def _inline(text: str) -> str:
    return "\n" + _SOURCE_MAP.sub("", text).strip() + "\n"


def _policy(styles: str, *scripts: str) -> str:
    return (
        f"default-src 'none'; script-src {' '.join(map(_digest, scripts))}; style-src {_digest(styles)}; "
        "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        # Only DOMPurify may convert text to HTML.
        "require-trusted-types-for 'script'; trusted-types dompurify"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def add_page(app: FastAPI, *, needs_key: bool = False, testgen: str = "off") -> None:
    """Add ``/``. It needs no API key, because it contains no secrets and no model names."""
    page = build(needs_key=needs_key, testgen=testgen)
    headers = {"content-security-policy": page.policy, "cache-control": "no-cache", "etag": page.etag}

    async def root(request: Request) -> Response:
        if page.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return HTMLResponse(page.text, headers=headers)

    app.get("/", include_in_schema=False)(root)
