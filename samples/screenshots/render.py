"""Renders the pages of this folder to PNG with headless Chromium: `python samples/screenshots/render.py`.

The pictures are committed, because the README, the demo and the tests use them; run this after editing a page.
sign-in.png is another one: vlserve/testgen/evaluation/fixtures/login.html at 640×480.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGES = {"login": (640, 480), "dashboard": (1280, 720), "settings": (640, 480)}  # CSS pixels, one device pixel each
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1"),
    *("--disable-background-networking", "--disable-sync", "--no-first-run"),
)


def render(page: str, width: int, height: int) -> Path:
    """Writes `page`.png beside `page`.html; raises CalledProcessError or TimeoutExpired where Chromium fails."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("no Chromium: install it, or name it in CHROMIUM")
    picture = HERE / f"{page}.png"
    with tempfile.TemporaryDirectory() as profile:  # a fresh one, so that no setting of the user's shows
        command = [chromium, *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        command += [f"--screenshot={picture}", (HERE / f"{page}.html").as_uri()]
        subprocess.run(command, check=True, timeout=60, capture_output=True)
    return picture


if __name__ == "__main__":
    for page, (width, height) in PAGES.items():
        picture = render(page, width, height)
        print(f"{picture.name}: {width}x{height}, {picture.stat().st_size / 1000:.1f} kB")
