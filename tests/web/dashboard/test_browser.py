"""The dashboard in a real browser, with a real server, store and worker."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from json import dumps
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By

from alligator import Gator
from alligator.backends.base import Message, WorkerInfo
from tests.harness.browsers import Browser, chromium
from tests.harness.programs import eventually, lines, running
from tests.harness.store_servers import Missing, redis_server, valkey_server
from tests.harness.web_process import web_process

pytestmark = pytest.mark.timeout(120)

TOKEN = "a-token-that-is-long-enough"

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


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@contextmanager
def serving(command: str, program: str, folder: Path, dsn: str) -> Iterator[Site]:
    """Serve the dashboard of *dsn* on a port that the server chooses."""
    (folder / "site_under_test.py").write_text(SITE + program)
    (folder / "shop.py").write_text(TASKS)
    settings = {"ALLIGATOR_CONN": dsn, "ALLIGATOR_TOKEN": TOKEN}
    with web_process(["-m", *command.split()], folder, **settings) as web:
        site = Site(folder, dsn, web.url)
        yield site
        site.gator.client.close()


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


def test_person_watches_the_queue_and_retries_what_failed(site: Site, browser: Browser) -> None:
    browser.driver.get(site.url)
    browser.driver.delete_all_cookies()
    browser.driver.get(site.url)
    assert "This page needs the token" in browser.text()
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
        assert "No task is scheduled." in browser.text("#scheduled")

    stats = site.gator.stats()
    assert (stats.succeeded, stats.canceled, stats.dead) == (1, 1, 0)
    assert browser.complaints() == []  # nothing that the content security policy would have stopped


def test_person_logs_in_with_the_token_and_out(
    site: Site, browser: Browser, axe: Callable[[], list[str]]
) -> None:
    browser.driver.get(site.url)
    browser.driver.delete_all_cookies()
    bury(site, "a")
    address = f"{site.url.rstrip('/')}/stats"
    browser.driver.get(address)
    found = axe()

    # A wrong token, then the right one.
    browser.find("#token").send_keys("a guess")
    browser.click("button")
    assert "The token is wrong." in browser.text()
    browser.find("#token").send_keys(TOKEN)
    browser.click("button")
    assert "no luck" in browser.text("#dead")
    cookies = {cookie["name"]: cookie for cookie in browser.driver.get_cookies()}

    # What is behind it is open, and its buttons work.
    browser.click("#dead .tasks button.drop")
    assert browser.text("#notice") == "The task is dropped."
    browser.driver.get(address)
    assert '"schema"' in browser.text("body")
    browser.driver.get(site.url)
    browser.click("#log-out")
    assert "This page needs the token" in browser.text()
    browser.driver.get(address)

    assert "This page needs the token" in browser.text()
    session = cookies["alligator_session"]
    assert (session["httpOnly"], session["sameSite"]) == (True, "Strict")
    assert TOKEN not in session["value"]
    assert found == []
    # The document of /stats has no icon, so the browser asks the site for one.
    assert [each for each in browser.complaints() if "favicon" not in each] == []


def bury(site: Site, *task_ids: str, queue: str = "all", reason: str = "no luck") -> None:
    for task_id in task_ids:
        site.push("send", task_id, queue)
    for lease in site.gator.client.reserve(queue, limit=len(task_ids)):
        site.gator.client.dead_letter(lease, reason=reason, traceback=reason)


def test_page_works_without_scripts(site: Site, browser: Browser) -> None:
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


def test_markup_is_text_also_after_the_script_updates_the_page(
    site: Site, browser: Browser
) -> None:
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
    """Look for barriers to accessibility with axe."""
    script = files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")

    def look() -> list[str]:
        browser.driver.execute_script(script)
        found = browser.driver.execute_async_script(
            "axe.run(document).then(arguments[arguments.length - 1])"
        )
        return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found["violations"]]

    return look


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_page_is_accessible(site: Site, browser: Browser, axe: Callable[[], list[str]]) -> None:
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


NAMES = ["images", "payments", "reports", "notifications_of_customers", "x" * 120]

BROKEN = """
return [...document.querySelectorAll("#queues .name")].flatMap((link) => {
  const text = link.firstChild;
  return [...text.data.matchAll(/[^\\s-]+/g)].filter(({ 0: word, index }) => {
    const range = document.createRange();
    range.setStart(text, index);
    range.setEnd(text, index + word.length);
    return new Set([...range.getClientRects()].map((box) => box.top)).size > 1;
  }).map((found) => found[0]);
});
"""

OVERFLOWING = """
return [document.documentElement, ...document.querySelectorAll(".card, .tiles > div, .chart")]
  .filter((box) => box.scrollWidth > box.clientWidth + 1)
  .map((box) => `${box.className}: ${box.scrollWidth} > ${box.clientWidth}`);
"""


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_names_are_whole_and_nothing_is_wider_than_its_card(site: Site, browser: Browser) -> None:
    for name in NAMES:
        bury(site, *(str(number) for number in range(12)), queue=name)
        site.gator.client.note({name: {"run:8": 1000, "run:us": 10**9, "latency:17": 7}}, [name])
    names = [f"{name}-of-a-host" for name in NAMES]
    site.gator.client.beat(WorkerInfo(names[-1], NAMES, concurrency=9, memory=2**30), 60)
    browser.look_at(site.url)

    found = {}
    for width in (390, 700, 961, 1024, 1100, 1280, 1920):
        browser.show_as(width, "light")
        browser.driver.get(site.url)
        found[width] = (
            browser.driver.execute_script(BROKEN),
            browser.driver.execute_script(OVERFLOWING),
        )

    assert found == dict.fromkeys(found, ([], []))


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_limit_keys_are_readable_on_every_screen(
    site: Site, browser: Browser, axe: Callable[[], list[str]]
) -> None:
    keys = [*(f"tenant-{n}" for n in range(30)), "a customer with a long name " * 6, "k" * 200]
    for key in keys:
        site.gator.limit("mail", at_once=1, per_minute=600, limit_key=key)
        site.gator.client.push_many(
            [Message("mail", f"{key[:50]} {n}", "{}", limit_key=key) for n in range(2)]
        )
    for _ in range(2):
        site.gator.client.reserve("mail", limit=100)
    browser.look_at(site.url)

    assert "mail 32 32 a customer with" in browser.text("#keys")
    found = {}
    for width in (390, 700, 1024, 1280):
        browser.show_as(width, "light")
        browser.driver.get(site.url)
        found[width] = (browser.driver.execute_script(OVERFLOWING), axe())
    assert found == dict.fromkeys(found, ([], []))


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_button_does_not_change_under_the_pointer(site: Site, browser: Browser) -> None:
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
def test_chosen_tasks_stay_chosen_when_others_arrive(site: Site, browser: Browser) -> None:
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
    browser.press("#choose-all-dead")
    assert len(chosen()) == 10
    browser.press("#drop-some summary")
    browser.click("#drop-chosen")
    assert (site.gator.stats().dropped, site.gator.stats().dead) == (10, 21)


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_page_can_be_paused(site: Site, browser: Browser) -> None:
    browser.look_at(site.url)
    eventually(lambda: browser.text("#live") == "Live")
    browser.press("#live")

    site.push("send", "a")

    assert browser.text("#live") == "Paused"
    assert browser.find("#live").get_attribute("aria-pressed") == "false"
    assert "Ready 0" in browser.text("#overview")
    browser.press("#live")
    eventually(lambda: "Ready 1" in browser.text("#overview"))
