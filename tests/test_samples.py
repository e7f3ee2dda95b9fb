"""What samples make of an answer, over fake engines; over real ones they run in test_vllm_answers.py."""

import asyncio
import os
import pathlib
import re
import sys

from PIL import Image

from tests.conftest import REPOSITORY, Gateway
from tests.fake_engine import ANSWER


async def test_boxes_are_mapped_back_and_drawn(gateway: Gateway, tmp_path: pathlib.Path) -> None:
    shot = tmp_path / "shot.png"
    Image.new("RGB", (1000, 500), "white").save(shot)  # the model sees 1008×504
    gateway.engines["vision"][ANSWER][0] = (
        'Here they are:\n```json\n[{"bbox_2d": [504, 126, 756, 252], "label": "button \\"Sign in\\""}]\n```'
    )
    sample = await asyncio.create_subprocess_exec(
        *(sys.executable, str(REPOSITORY / "samples" / "boxes.py"), str(shot), "-o", str(tmp_path / "out.png")),
        env={**os.environ, "VLSERVE_URL": f"{gateway.url}/v1"},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await sample.communicate()
    assert sample.returncode == 0
    assert re.search(r'button "Sign in": 500, 125, 750, 250\n', output.decode())
    drawn = Image.open(tmp_path / "out.png")
    assert [drawn.getpixel(place) for place in ((500, 200), (750, 200), (600, 125), (300, 200))] == [
        *[(255, 0, 0)] * 3,
        (255, 255, 255),
    ]
