"""A real service in its own process, and a browser that notes what must not happen."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Error, Page, sync_playwright

ROOT = Path(__file__).parents[3]
CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
PATIENCE_S = 240.0
SCREENSHOTS = os.environ.get("ISOFLOP_SCREENSHOTS")
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}


def chromium() -> str | None:
    """Return the system's Chromium, or None where there is none."""
    return next((path for path in CHROMIUM if os.access(path, os.X_OK)), None)


def screenshots_folder(factory: pytest.TempPathFactory) -> Path:
    """Return where pictures go: the folder that ISOFLOP_SCREENSHOTS names, else a temporary one."""
    folder = Path(SCREENSHOTS) if SCREENSHOTS else factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Run `isoflop serve` with a Ray head of its own over `folder`; yield its address."""
    log = folder / "serve.log"
    with log.open("wb") as said:
        service = subprocess.Popen(
            [sys.executable, "-c", "from service.cli import main; main()",
             "serve", "--port", "0", "--ledger", "isoflop.db"],
            cwd=folder,
            stdout=said,
            stderr=said,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )  # fmt: skip
    try:
        yield _address(service, log)
    finally:
        service.send_signal(signal.SIGINT)
        try:
            service.wait(60)
        except subprocess.TimeoutExpired:
            service.kill()


def _address(service: subprocess.Popen[bytes], log: Path) -> str:
    """Read the log until it names the dashboard."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and service.poll() is None:
        if found := re.search(r"dashboard: (http://\S+)", log.read_text()):
            return found[1]
        time.sleep(0.2)
    raise AssertionError(f"the service did not come up: {log.read_text()}")


class Visit:
    """One person's browser at the service."""

    def __init__(self, context: BrowserContext, address: str, screenshots: Path) -> None:
        self.context, self.address, self._screenshots = context, address, screenshots
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        context.set_default_timeout(PATIENCE_S * 1000)
        context.on("request", lambda request: self._note_request(request.url))
        context.on("console", self._note_message)
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        self.page: Page = context.new_page()

    def _note_request(self, url: str) -> None:
        if not url.startswith((self.address, "data:", "blob:")):
            self.elsewhere.append(url)

    def _note_message(self, message: ConsoleMessage) -> None:
        # The form's 400s are answers that the page shows; Chromium reports them as errors too.
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url')})")

    def open(self, path: str) -> Page:
        self.page.goto(self.address + path, wait_until="load")
        return self.page

    def sign_in(self, token: str, path: str = "/") -> None:
        self.open(path)
        self.page.fill("#token", token)
        self.page.click("button:has-text('Sign in')")
        self.page.wait_for_url(self.address + path)

    def picture(self, name: str) -> None:
        self.page.screenshot(path=self._screenshots / f"{name}.png", full_page=True)

    def until(self, what: str, holds: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
        """Look again and again until something holds, and return it."""
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(Error):  # the page may be on its way to another address
                if found := holds():
                    return found
            assert time.monotonic() < deadline, f"{what}: not within {timeout_s:.0f} s"
            self.page.wait_for_timeout(200)

    def until_drawn(self) -> None:
        """Wait for the charts, on pages that have some."""
        if self.page.query_selector("#matched"):
            self.until("charts are drawn", lambda: self.page.inner_text("#matched"))

    def number(self, selector: str, attribute: str) -> int:
        """Return a number that an element carries, 0 while it carries none."""
        return int(self.page.get_attribute(selector, attribute) or 0)

    def overflow_px(self) -> int:
        """Return by how much the page is wider than its window."""
        width = "document.scrollingElement.scrollWidth - innerWidth"
        return max(int(self.page.evaluate(width)), 0)


@contextlib.contextmanager
def browsing(address: str, screenshots: Path) -> Iterator[Callable[..., Visit]]:
    """Start Chromium; yield a function that opens a new person's window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(),
            # No name but this machine's is looked up: what is asked for elsewhere fails.
            args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
        )

        def visitor(**options: Any) -> Visit:
            options = {"viewport": DESK, **options}
            return Visit(browser.new_context(**options), address, screenshots)

        yield visitor
        browser.close()
