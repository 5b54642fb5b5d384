"""Headless Chromium for tests of the console, and for its picture in the docs.

``make screenshot`` runs this module: it sends the document's request from the console of the running local stack and
keeps what is then to be seen.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_WAIT_SECONDS = 20.0


def missing() -> str:
    """Why no browser can be started here; empty where one can."""
    if importlib.util.find_spec("selenium") is None:
        return "selenium is not installed (requirements-dev.txt)"
    if not any(map(shutil.which, _CHROMIUM)) or not shutil.which("chromedriver"):
        return "Chromium and its driver are not installed (Debian: apt-get install chromium chromium-driver)"
    return ""


class Browser:
    """One browser with one page."""

    def __init__(self, profile: Path, *arguments: str) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = next(filter(None, map(shutil.which, _CHROMIUM)))
        for argument in (
            "--headless=new",
            "--hide-scrollbars",
            "--disable-dev-shm-usage",
            "--no-proxy-server",
            *arguments,
        ):
            options.add_argument(argument)
        options.add_argument(f"--user-data-dir={profile}")
        if os.geteuid() == 0:
            options.add_argument("--no-sandbox")  # Chromium's own sandbox does not run as root
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.driver.quit()

    def open(self, url: str, width: int = 1280, height: int = 900, *, dark: bool = False) -> None:
        """Opens a page afresh, on a screen of this size."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])
        self.driver.get("about:blank")
        self.errors()
        self.driver.get(url)

    def command(self, name: str, **parameters: Any) -> Any:
        """One command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def text(self, selector: str = "body") -> str:
        """What a person reads there, all blanks alike."""
        return " ".join(self.one(selector).text.split())

    def value(self, selector: str) -> str:
        return str(self.one(selector).get_property("value"))

    def type_over(self, selector: str, text: str) -> None:
        """Types in the place of what a field holds, which is never empty in between: the page may fill one that is."""
        from selenium.webdriver.common.keys import Keys

        self.one(selector).send_keys(Keys.CONTROL, "a", Keys.NULL, text)

    def js(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def wait(self, condition: Callable[[], T], seconds: float = _WAIT_SECONDS) -> T:
        """Waits until ``condition`` holds; elements that are replaced meanwhile are looked up again."""
        from selenium.common.exceptions import WebDriverException

        deadline = time.monotonic() + seconds
        while True:
            try:
                if found := condition():
                    return found
            except WebDriverException:
                pass
            if time.monotonic() > deadline:
                raise AssertionError(f"did not come true within {seconds:.0f} s; the page says: {self.text()}")
            time.sleep(0.1)

    def sees(self, text: str, selector: str = "body", seconds: float = _WAIT_SECONDS) -> None:
        """Waits until the page says something."""
        self.wait(lambda: text in self.text(selector), seconds)

    def ask(self, key: str) -> None:
        """Presses the button of a version or a label: ``service/model/label:stable``."""
        self.wait(lambda: self.js(f"document.querySelector('[data-key=\"{key}\"]').click(); return true"))

    def errors(self) -> list[str]:
        """What the browser complained about since it was last asked: scripts, blocked content, failed requests."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def picture(self, file: Path) -> None:
        file.write_bytes(self.driver.get_screenshot_as_png())


def main(file: str) -> None:
    from sandbox import paths
    from sandbox.cloud import console

    if why := missing():
        sys.exit(f"error: {why}")
    url = console.url(paths.cloud_endpoint().port)
    with tempfile.TemporaryDirectory() as profile, Browser(Path(profile)) as browser:
        browser.open(url, width=1280, height=970)
        browser.ask("multi_http/modelB/label:stable")
        browser.one("#send").click()
        browser.sees("answered by version")
        browser.js("document.activeElement.blur()")
        time.sleep(0.5)
        browser.picture(Path(file))


if __name__ == "__main__":
    main(*sys.argv[1:])
