"""Takes the picture of the dashboard that the front page shows.

    python -m tests.browser.screenshot outputs/quickstart

Writes ``tests/browser/overview.png``: the overview in a real Chromium, in few colours, below 200 kB.
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.browser.conftest import CHROMIUM, ROOT, served

TARGET = Path(__file__).with_name("overview.png")

WIDTH, HEIGHT = 1280, 1130
"""Down to the end of the best cells."""

MAX_BYTES = 200_000


def take(directory: Path, target: Path) -> int:
    """Write the picture and return its size in bytes."""
    with served(directory) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(server["url"])
        while page.evaluate("!!document.querySelector('.waiting, figure.undrawn, figure.drawing')"):
            time.sleep(0.1)
        page.wait_for_load_state("networkidle")
        picture = Image.open(io.BytesIO(page.screenshot()))
        browser.close()
    picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(target, optimize=True)
    return target.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, nargs="?", default=ROOT / "outputs" / "quickstart")
    parser.add_argument("--output", type=Path, default=TARGET)
    args = parser.parse_args()
    size = take(args.directory, args.output)
    print(f"{args.output}: {size:,} bytes")
    if size > MAX_BYTES:
        raise SystemExit(f"larger than {MAX_BYTES:,} bytes: shrink the page or its colours")


if __name__ == "__main__":
    main()
