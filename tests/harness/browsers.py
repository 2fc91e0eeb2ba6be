"""A browser without a screen."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.harness.programs import eventually
from tests.harness.requirements import do_without


class Browser:
    """A browser with one window, and what a person does in it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def look_at(self, url: str) -> None:
        """Open the page as a member of the staff."""
        self.driver.get(url)
        self.driver.add_cookie({"name": "staff", "value": "yes"})
        self.driver.get(url)

    def text(self, css: str = "main") -> str:
        """Read what is on the page."""
        text: str = self.driver.execute_script(
            "return document.querySelector(arguments[0])?.innerText ?? ''", css
        )
        return " ".join(text.split())

    def click(self, css: str) -> None:
        """Click on the only such element, and wait for the next page."""
        body = self.find("body")
        self.press(css)
        # Between two pages there is none for a moment, and then a part of one.
        eventually(lambda: self.driver.find_elements(By.CSS_SELECTOR, "body") not in ([], [body]))
        eventually(lambda: self.driver.execute_script("return document.readyState") == "complete")

    def press(self, css: str) -> None:
        """Click on the only such element, in the middle of the window where nothing covers it."""
        element = self.find(css)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def find(self, css: str) -> WebElement:
        """Return the only such element."""
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def show_as(self, width: int, scheme: str) -> None:
        """Set the width of the window, and its colours to light or dark."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def complaints(self) -> list[str]:
        """Return the errors of the browser since the last call, except for a 403."""
        get_log: Any = self.driver.get_log
        return [entry["message"] for entry in get_log("browser") if "403" not in entry["message"]]

    def run_scripts(self, run: bool) -> None:
        """Switch JavaScript on or off."""
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not run})


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Run Chromium, which keeps its data in *folder*, during the block."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not program or not driver:
        do_without("no chromium, or no chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={folder}")
    started = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield Browser(started)
    finally:
        started.quit()
