"""The dashboard as people see it: a real browser, a real server, a real store, a real worker."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from json import dumps
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from alligator import Gator
from alligator.backends.base import Message
from tests.needs import do_without
from tests.programs import ROOT, environment, eventually, lines, running
from tests.servers import Missing, redis_server, valkey_server

pytestmark = pytest.mark.timeout(120)

MARKUP = '"><script>document.title = "bad"</script><img src=x onerror="document.title = \'bad\'">'

TASKS = """
import os


def send(out):
    with open(out, "a") as file:
        file.write("sent\\n")


def charge(out):
    if not os.path.exists(out + ".gateway"):
        raise ConnectionError("the gateway is away")
    send(out)
"""

SITE = """
import os

from alligator import Gator

gator = Gator(os.environ["ALLIGATOR_CONN"])


def is_staff(cookies):
    return "staff=yes" in (cookies or "")
"""

WSGI = """
from wsgi_alligator import AlligatorEndpoint

app = AlligatorEndpoint(
    gator, authorize=lambda environ: is_staff(environ.get("HTTP_COOKIE")), actions=True, details=True
)
"""

ASGI = """
from starlette.applications import Starlette
from starlette.routing import Mount

from starlette_alligator import AlligatorEndpoint

endpoint = AlligatorEndpoint(
    gator, authorize=lambda request: is_staff(request.headers.get("cookie")), actions=True, details=True
)
app = Starlette(routes=[Mount("/alligator", endpoint)])
"""


class Site:
    """A server of the dashboard, and the queue that it shows."""

    def __init__(self, folder: Path, dsn: str, url: str) -> None:
        self.folder = folder
        self.dsn = dsn
        self.url = url
        self.gator = Gator(dsn)
        self.out = folder / "out"

    def push(self, name: str, task_id: str, queue: str = "all", delay: float = 0) -> None:
        """Put a task on the queue, as the server would."""
        task = {"task_id": task_id, "retries": 0, "is_async": True, "module": "shop"}
        data = dumps({**task, "callable": name, "args": [str(self.out)], "kwargs": {}})
        self.gator.client.push_many([Message(queue, task_id, data, delay)])

    def work(self) -> Any:
        """Run a worker for as long as the block lasts."""
        return running(self.dsn, log=self.folder / "worker.log", cwd=self.folder)


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
        """Click on what there is one of, and wait for the page that comes of it."""
        body = self.find("body")
        self.press(css)
        # Between two pages there is none for a moment, and then a part of one.
        eventually(lambda: self.driver.find_elements(By.CSS_SELECTOR, "body") not in ([], [body]))
        eventually(lambda: self.driver.execute_script("return document.readyState") == "complete")

    def press(self, css: str) -> None:
        """Click on what there is one of, in the middle of the window where nothing covers it."""
        element = self.find(css)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def find(self, css: str) -> WebElement:
        """Find one thing."""
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def show_as(self, width: int, scheme: str) -> None:
        """Be as wide as that, and light or dark."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def complaints(self) -> list[str]:
        """Take what the browser has complained of since this was last asked, but for a 403."""
        get_log: Any = self.driver.get_log
        return [entry["message"] for entry in get_log("browser") if "403" not in entry["message"]]

    def run_scripts(self, run: bool) -> None:
        """Switch JavaScript on or off."""
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not run})


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        do_without("no chromium, or no chromedriver")
        return
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    started = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield Browser(started)
    finally:
        started.quit()


@contextmanager
def serving(command: str, program: str, folder: Path, dsn: str) -> Iterator[Site]:
    """Serve the dashboard of *dsn* on a port that the server chooses."""
    (folder / "site_under_test.py").write_text(SITE + program)
    (folder / "shop.py").write_text(TASKS)
    paths = [str(ROOT), str(ROOT / "integrations"), str(folder)]
    env = environment({"PYTHONPATH": os.pathsep.join(paths), "ALLIGATOR_CONN": dsn})
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *command.split()],
            env=env,
            cwd=folder,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        eventually(lambda: _url(log) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        site = Site(folder, dsn, _url(log))
        yield site
        site.gator.client.close()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _url(log: Path) -> str:
    found = re.search(r"(?:Listening at:|running on) (http://127\.0\.0\.1:\d+)", log.read_text())
    return found[1] if found else ""


@pytest.fixture(params=["sqlite", "redis"])
def site(request: pytest.FixtureRequest, browser: Browser, tmp_path: Path) -> Iterator[Site]:
    """SQLite under gunicorn, at the root; Redis or Valkey under uvicorn, mounted by Starlette."""
    browser.driver.get("about:blank")  # the page of the test before has lost its server
    browser.complaints()
    with ExitStack() as stack:
        if request.param == "sqlite":
            command = "gunicorn site_under_test:app -b 127.0.0.1:0 --threads 4"
            dsn = f"sqlite://{tmp_path / 'queue.db'}"
            yield stack.enter_context(serving(command, WSGI, tmp_path, dsn))
            return
        try:
            dsn = str(stack.enter_context(redis_server()))
        except Missing:
            dsn = str(stack.enter_context(valkey_server()))
        command = "uvicorn site_under_test:app --host 127.0.0.1 --port 0"
        site = stack.enter_context(serving(command, ASGI, tmp_path, dsn))
        site.url += "/alligator/"
        yield site


def test_a_person_watches_and_puts_right_what_failed(site: Site, browser: Browser) -> None:
    browser.driver.get(site.url)
    browser.driver.delete_all_cookies()
    browser.driver.get(site.url)
    assert "This page is closed to you" in browser.text()
    browser.look_at(site.url)
    assert "No task is dead." in browser.text("#dead")

    # Numbers change while one looks.
    site.push("charge", "a-payment")
    site.push("send", "a-reminder", delay=3600)
    eventually(lambda: "Ready 1 Scheduled 1" in browser.text("#overview"))
    with site.work():
        eventually(lambda: "the gateway is away" in browser.text("#dead"))

        # A failed task is looked into, and retried.
        browser.press("#dead .acts a")
        eventually(lambda: 'charge("' in browser.text("#dead pre"))
        assert "ConnectionError" in browser.text("#dead")
        (site.folder / "out.gateway").touch()
        browser.click("#dead button.retry")
        assert browser.text("#notice") == "The task is back on its queue."
        eventually(lambda: lines(site.out) == ["sent"])
        eventually(lambda: "No task is dead." in browser.text("#dead"))

        # A scheduled one is canceled.
        browser.click("#scheduled button.cancel")
        assert browser.text("#notice") == "The task is canceled."
        assert "Nothing is scheduled." in browser.text("#scheduled")

    stats = site.gator.stats()
    assert (stats.succeeded, stats.canceled, stats.dead) == (1, 1, 0)
    assert browser.complaints() == []  # nothing that the content security policy would have stopped


def bury(site: Site, *task_ids: str, queue: str = "all", reason: str = "no luck") -> None:
    for task_id in task_ids:
        site.push("send", task_id, queue)
    for lease in site.gator.client.reserve(queue, limit=len(task_ids)):
        site.gator.client.dead_letter(lease, reason=reason, traceback=reason)


def test_it_works_without_scripts(site: Site, browser: Browser) -> None:
    bury(site, "a", "b", "c", "d", "e")
    browser.run_scripts(False)
    try:
        browser.look_at(site.url)
        assert browser.find("#reload").is_displayed()
        assert not browser.find("#live").is_displayed()
        browser.click("#dead li:first-child .drop")
        browser.press("#dead li:nth-child(2) .choose")
        browser.press("#dead li:nth-child(3) .choose")
        browser.press("#drop-some summary")
        browser.click("#drop-chosen")
        assert browser.text("#notice") == "The chosen tasks are dropped."
        assert browser.text("#dead .count") == "2"
        browser.press("#drop-all summary")
        browser.click("#drop-all button")
        assert browser.text("#notice") == "The dead tasks are dropped."
    finally:
        browser.run_scripts(True)

    assert (site.gator.stats().dropped, site.gator.stats().dead) == (5, 0)


def test_markup_is_text_also_in_what_the_script_puts_there(site: Site, browser: Browser) -> None:
    browser.look_at(site.url)

    bury(site, MARKUP, queue=MARKUP, reason=MARKUP)
    site.push(MARKUP, MARKUP, delay=3600)

    eventually(lambda: browser.text().count("onerror=") >= 4)
    browser.look_at(browser.find("#dead .acts a").get_attribute("href") or "")
    assert MARKUP in browser.text("#dead .payload")
    assert browser.driver.title == "Alligator"
    assert browser.driver.find_elements(By.CSS_SELECTOR, "main script, main img") == []


@pytest.fixture
def axe(browser: Browser) -> Callable[[], list[str]]:
    """Look for what keeps people out, as axe does."""
    script = files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")

    def look() -> list[str]:
        browser.driver.execute_script(script)
        found = browser.driver.execute_async_script(
            "axe.run(document).then(arguments[arguments.length - 1])"
        )
        return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found["violations"]]

    return look


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_everybody_can_use_it(site: Site, browser: Browser, axe: Callable[[], list[str]]) -> None:
    browser.show_as(1300, "light")
    browser.driver.get(f"{site.url}/nothing")
    closed = axe()
    browser.look_at(site.url)
    empty = axe()
    bury(site, "a", "b", reason="ValueError: " + "a long reason " * 40)
    bury(site, "c", queue="a-queue-with-quite-a-long-name" * 4)
    site.push("send", "later", delay=3600)
    browser.look_at(f"{site.url}?queue=all")
    browser.driver.get(browser.find("#dead .acts a").get_attribute("href") or "")
    browser.press("#dead li:last-child .choose")
    browser.press("#drop-all summary")

    assert closed == empty == []
    for width in (1300, 390):
        for scheme in ("light", "dark"):
            browser.show_as(width, scheme)
            assert axe() == []
            overflow = "return document.documentElement.scrollWidth > innerWidth"
            assert not browser.driver.execute_script(overflow)


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_a_button_stays_the_button_that_it_was(site: Site, browser: Browser) -> None:
    browser.show_as(1300, "light")
    bury(site, "a")
    browser.look_at(site.url)
    button = browser.find("#dead .tasks button.drop")
    browser.driver.execute_script("arguments[0].focus()", button)

    bury(site, "b")  # it comes to stand above the other
    eventually(lambda: browser.text("#dead .count") == "2")

    assert browser.driver.switch_to.active_element == button
    form = browser.find("#dead li:last-child form:last-child")
    assert button.find_element(By.XPATH, "..") == form
    assert form.find_element(By.NAME, "task").get_attribute("value") == "a"


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_what_is_chosen_stays_so_whatever_comes(site: Site, browser: Browser) -> None:
    def chosen() -> list[str]:
        found: list[str] = browser.driver.execute_script(
            "return [...document.querySelectorAll('.choose :checked')].map((box) => box.value)"
        )
        return found

    browser.show_as(1300, "light")
    bury(site, "a", "b")
    browser.look_at(site.url)
    browser.find("#dead li:last-child input").send_keys(" ")  # as people do without a mouse
    only_a = chosen()

    bury(site, *(str(number) for number in range(30)))  # there is no room for a any more
    eventually(lambda: browser.text("#dead .count") == "32")
    browser.press("#dead li:first-child .acts a")
    eventually(lambda: 'send("' in browser.text("#dead li:first-child .payload"))

    assert only_a == chosen() == ["store=0&queue=all&task=a"]
    assert "?task=dead" in browser.driver.current_url
    browser.click("#retry-chosen")
    assert browser.text("#notice") == "The chosen tasks are back on their queues."
    assert (site.gator.stats().ready, site.gator.stats().dead) == (1, 31)

    # One box chooses all.
    browser.press("#choose-every-dead")
    assert len(chosen()) == 25
    browser.press("#drop-some summary")
    browser.click("#drop-chosen")
    assert (site.gator.stats().dropped, site.gator.stats().dead) == (25, 6)


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_the_page_can_be_made_to_stand_still(site: Site, browser: Browser) -> None:
    browser.look_at(site.url)
    eventually(lambda: browser.text("#live") == "Live")
    browser.press("#live")

    site.push("send", "a")

    assert browser.text("#live") == "Paused"
    assert browser.find("#live").get_attribute("aria-pressed") == "false"
    assert "Ready 0" in browser.text("#overview")
    browser.press("#live")
    eventually(lambda: "Ready 1" in browser.text("#overview"))
