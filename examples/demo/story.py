"""The three kinds of requests, and what is guaranteed for each."""

from alligator import Gator
from alligator.backends.base import QueueStats

from .screen import Screen
from .stage import FOLLOWERS, Stage, address, new_key, until


class Story:
    """Runs the story, prints it, and checks the guarantees."""

    def __init__(self, stage: Stage, screen: Screen) -> None:
        self.stage = stage
        self.screen = screen
        self.expected: list[tuple[str, str]] = []
        """Exactly the mails that must have been sent."""
        self._told = 0

    @property
    def gator(self) -> Gator:
        return self.stage.gator

    def play(self) -> None:
        """Run the story from the beginning to the end."""
        self.a_request_that_succeeds()
        self.a_request_that_fails_after_enqueuing()
        self.a_request_while_the_store_is_away()
        self.how_it_stands()

    def a_request_that_succeeds(self) -> None:
        """Post; see three tasks wait; start a worker; see three mails."""
        screen = self.screen
        screen.step(
            "A request that succeeds",
            f"ann posts, and {', '.join(FOLLOWERS)} follow her: three mails, one task for each. "
            "They are slow, so the view does not send them. No worker runs yet.",
        )
        before = self.gator.stats()
        response = self.stage.post("/posts", author="ann", message="Hello!", key=new_key())
        until(lambda: self.gator.stats().ready - before.ready == 3)
        after = self.gator.stats()
        screen.saw(response)
        screen.queue(before, after)
        screen.check(response.status_code == 303, "The client sees a success,")
        screen.check(after.ready - before.ready == 3, "so all three tasks are on the queue.")
        screen.say("\nNow a worker starts: [bold]flask alligator worker[/]")
        self.stage.start_worker()
        self._see_mails_arrive(after)

    def a_request_that_fails_after_enqueuing(self) -> None:
        """Post something that fails when four tasks are already deferred."""
        screen = self.screen
        screen.step(
            "A request that fails after enqueuing",
            "ann mentions @bob and @nobody. The view has called opts.task() four times when it "
            "finds that there is no such person, and gives up.",
        )
        before = self.gator.stats()
        response = self.stage.post(
            "/posts", author="ann", message="Thanks @bob, thanks @nobody!", key=new_key()
        )
        after = self.gator.stats()
        screen.saw(response)
        screen.queue(before, after)
        screen.worker(self._news())
        screen.check(response.status_code == 422, "The client sees a failure,")
        screen.check("4 mails are not sent" in response.text, "four tasks were held back,")
        screen.check(after.pushed == before.pushed, "and none of them was queued.")

    def a_request_while_the_store_is_away(self) -> None:
        """Post during an outage of the store; see the mails arrive after it."""
        screen, store = self.screen, self.stage.store
        screen.step(
            "A request while the store is unavailable",
            f"{store.name} takes nothing: {store.why_away}. But the commit of a post also writes its "
            "tasks, into the outbox of the same database.",
        )
        form = {"author": "ann", "message": "Is anybody there?", "key": new_key()}
        before = self.gator.stats()
        with store.away():
            response = self.stage.post("/posts", **form)
            after = self.gator.stats()
            health = self.stage.get("/alligator/health")
        screen.saw(response)
        screen.queue(before, after)
        if health.is_error:  # a locked file still answers
            screen.health(health)
        screen.check(response.status_code == 303, "The client sees a success,")
        screen.check(after.pushed == before.pushed, "and its tasks wait in the outbox.")

        screen.say("\nThe store is back, and a relay pushes what is in the outbox.")
        self._see_mails_arrive(before)
        healthy = until(lambda: self.stage.get("/alligator/health").status_code == 200)
        screen.check(healthy, "Health is good.")
        screen.say("\nThe client, which is not sure, sends the same form again.")
        response = self.stage.post("/posts", **form)
        screen.saw(response)
        posts = self.stage.get("/").text.count("Is anybody there?")
        screen.check(posts == 1, "The post, sent twice, is there once.")

    def how_it_stands(self) -> None:
        """Read the health and the stats."""
        screen = self.screen
        screen.step(
            "How it stands",
            "What an operator with the token sees. A probe without it learns pass, warn or fail.",
        )
        health = self.stage.get("/alligator/health", token=self.stage.token)
        closed = self.stage.get("/alligator/stats")
        stats = self.stage.get("/alligator/stats", token=self.stage.token)
        screen.health(health)
        screen.document(stats)
        totals = self.gator.stats()
        screen.check(health.status_code == 200, "Health is no failure.")
        screen.check(closed.status_code in (401, 403), "A stranger does not see the numbers.")
        screen.check(stats.status_code == 200, "The token opens them.")
        screen.check(
            (totals.pushed, totals.succeeded, totals.dead) == (6, 6, 0),
            "Six tasks were queued, six are done, none is dead.",
        )

    def _see_mails_arrive(self, before: QueueStats) -> None:
        """Wait for the mails of one more post, and show what has changed since *before*."""
        self.expected += [(address(name), "A new post by ann") for name in FOLLOWERS]
        done = len(self.expected)
        with self.screen.waiting("The worker sends the mails..."):
            in_time = until(lambda: self.gator.stats().succeeded >= done)
        self.screen.queue(before, self.gator.stats())
        self.screen.worker(self._news())
        self.screen.check(in_time, "The worker has done the tasks,")
        self.screen.check(
            self.stage.mails() == sorted(self.expected), "and each reader has the mail once."
        )

    def _news(self) -> list[str]:
        """Return the new log lines of the worker."""
        lines = self.stage.worker.said().splitlines() if self.stage.worker else []
        news, self._told = lines[self._told :], len(lines)
        return news
