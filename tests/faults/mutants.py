"""Break the scripts and statements of the stores on purpose: the tests of the stores must notice.

A test that never fails proves nothing. Each mutant here is a small mistake in what a store does,
made in memory; the model of `tests.backends.test_model`, or a test of the contract, has to fail.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from hashlib import sha1
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import NamedTuple
from uuid import uuid4

import pytest
from rich.console import Console

from alligator.backends import (
    open_client,
    redis_backend,
    redis_pushes,
    sqlite_backend,
    sqlite_tables,
    sqlite_turn,
)
from alligator.backends.base import Client
from tests.backends import test_contract
from tests.backends.test_model import compare
from tests.backends.test_redis import Cutter
from tests.servers import valkey_server

Judge = Callable[[Client], object]


def model(client: Client) -> None:
    """Compare the store with the model, over the same histories each time."""
    compare(client, derandomize=True)


class Mutant(NamedTuple):
    """A mistake: in this file, *right* is written as *wrong*."""

    name: str
    file: str
    right: str
    wrong: str
    judge: Judge = model

    @property
    def is_of_sqlite(self) -> bool:
        return self.file.startswith("sqlite_")


MODULES: dict[str, ModuleType] = {
    "redis_pushes.py": redis_pushes,
    "sqlite_turn.py": sqlite_turn,
    "sqlite_tables.py": sqlite_tables,
}
"""Those of the files that are Python."""

FENCE = "(call('HGET', queue .. ':try', id) or '0') == fence"

MUTANTS = [
    Mutant("a late ack is not heard", "step.lua", "if done < count then", "if false then"),
    Mutant("no fence for outcomes", "step.lua", f"return {FENCE}", "return true"),
    Mutant(
        "the fence stays the same after a retry",
        "step.lua",
        "call('HINCRBY', queue .. ':try', id, 1)\n    call('ZADD', queue .. ':due', now + delay",
        "call('ZADD', queue .. ':due', now + delay",
    ),
    Mutant("one lease too many", "step.lua", "if lost < max_lost then", "if lost <= max_lost then"),
    Mutant(
        "the payload of the dead is thrown away",
        "step.lua",
        "call('HSET', queue .. ':why', id, why)",
        "call('HSET', queue .. ':why', id, why); call('HDEL', queue .. ':job', id)",
    ),
    Mutant(
        "what is lost is not counted",
        "step.lua",
        "add(queue, 'lost', #expired / 2)",
        "",
    ),
    Mutant(
        "no dedupe",
        "push.lua",
        "if there[i] or ours[id] then",
        "if ours[id] then",
    ),
    Mutant("no dedupe in a commit", "push.lua", "if there[i] or ours[id] then", "if there[i] then"),
    Mutant("the marker is not looked at", "push.lua", "'done', 'NX', 'EX'", "'done', 'EX'"),
    Mutant("the other way round", "push.lua", "and now + i", "and now - i"),
    Mutant("a lease is extended by nothing", "extend.lua", "clock() + ARGV[1]", "clock() - 1"),
    Mutant("no fence for extending", "extend.lua", f"if {FENCE} and", "if"),
    Mutant(
        "a late push is not refused",
        "abort.lua",
        "call('SET', marker, 'aborted', 'EX', ARGV[1])",
        "",
        lambda client: test_contract.test_a_push_that_arrives_after_it_was_undone_is_refused(
            client
        ),
    ),
    Mutant(
        "undoing takes what a worker has had",
        "abort.lua",
        "call('HEXISTS', queue .. ':try', id) == 0 and",
        "",
        lambda client: released_then_undone(client),
    ),
    Mutant(
        "a part of a push is taken back that was begun",
        "abort.lua",
        "if taken > 0 and",
        "if taken > 1 and",
        lambda client: begun_then_undone(client),
    ),
    Mutant(
        "a lost reply is taken for success",
        "redis_pushes.py",
        "return not isinstance(self.reply, REFUSED)",
        "self.reply, self.is_in_doubt = TAKEN, False",
        lambda client: cut_in_both_attempts(client),
    ),
    Mutant(
        "only the first push of a trip is undone",
        "redis_pushes.py",
        "for push in pushes:\n                if push.is_in_doubt",
        "for push in pushes[:1]:\n                if push.is_in_doubt",
        lambda client: cut_in_both_attempts(client),
    ),
    Mutant(
        "a late ack is not heard",
        "sqlite_turn.py",
        "if gone == len(ids):",
        "if True:",
    ),
    Mutant(
        "no fence for outcomes",
        "sqlite_turn.py",
        "if (state, token) != (LEASED, lease_token):",
        "if state != LEASED:",
    ),
    Mutant("one lease too many", "sqlite_turn.py", "if lost < max_lost:", "if lost <= max_lost:"),
    Mutant(
        "the marker is not looked at",
        "sqlite_turn.py",
        "elif not self._is_known(commit_id):",
        "else:",
    ),
    Mutant(
        "what is undone is not remembered",
        "sqlite_turn.py",
        "self._remember(commit_id, 0, 0)",
        "pass",
        lambda client: test_contract.test_a_push_that_arrives_after_it_was_undone_is_refused(
            client
        ),
    ),
    Mutant(
        "no dedupe",
        "sqlite_tables.py",
        "ON CONFLICT (queue, id) DO NOTHING",
        "ON CONFLICT (queue, id) DO UPDATE SET data = excluded.data",
    ),
    Mutant(
        "no fence for extending",
        "sqlite_tables.py",
        "AND id = ? AND state = 'leased' AND token = ?",
        "AND id = ? AND state = 'leased' AND ? > 0",
    ),
    Mutant(
        "the other way round",
        "sqlite_tables.py",
        "lost, at FROM task\n    WHERE queue = ? AND state = 'ready' ORDER BY at, seq LIMIT ?",
        "lost, at FROM task\n    WHERE queue = ? AND state = 'ready' ORDER BY at, seq DESC LIMIT ?",
    ),
]


def released_then_undone(client: Client) -> None:
    """See to it that a task stays on the queue that a worker has had and given back."""
    from alligator.backends.base import Message

    message = Message("all", "a", "{}")
    client.push_many([message], commit_id="c")
    client.release(client.reserve("all")[0])
    client.abort("c", [message])
    assert client.len("all") == 1


def begun_then_undone(client: Client) -> None:
    """See to it that a push stays as a whole of which a worker has one task."""
    from alligator.backends.base import Commit, Message

    assert isinstance(client, redis_backend.Client)
    messages = [Message("all", name, "{}") for name in "ab"]
    client.push_many(messages, commit_id="c")
    client.reserve("all")
    push = client._pushes._prepare(Commit(messages, "c"))
    assert not client._pushes._undo(push, monotonic() + 2)
    assert client.len("all") == 1


def cut_in_both_attempts(client: Client) -> None:
    """See to it that of a trip whose bytes are lost twice that is queued which did not fail."""
    from alligator.backends.base import Commit, Message

    client.push_many([Message("all", "x", "{}")], commit_id="x")
    client.abort("x", [Message("all", "x", "{}")])  # now the server knows both scripts
    server, _, options = client.conn_string.partition("?")
    for lost in ("request", "reply"):
        commits = [Commit([Message("all", lost + name, "{}")], lost + name) for name in "abc"]
        with closing(Cutter(server)) as network:
            network.lose.extend([lost, lost])
            with closing(open_client(f"{network.dsn}?{options}")) as pusher:
                errors = pusher.push_commits(commits)
        assert client.len("all") == errors.count(None)


@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """Make the mistake during the block."""
    with pytest.MonkeyPatch.context() as patch:
        if mutant.file.endswith(".lua"):
            name = mutant.file.removesuffix(".lua").upper()
            module = redis_pushes if hasattr(redis_pushes, name) else redis_backend
            script = getattr(module, name)
            patch.setattr(script, "source", changed(mutant, script.source))
            patch.setattr(script, "sha", sha1(script.source.encode()).hexdigest())
        else:
            module = MODULES[mutant.file]
            assert module.__file__ is not None
            mistaken: dict[str, object] = {
                "__name__": module.__name__,
                "__package__": module.__package__,
            }
            exec(changed(mutant, Path(module.__file__).read_text("utf-8")), mistaken)
            for name in mistaken.keys() & vars(module).keys():
                if name.isupper():
                    patch.setattr(module, name, mistaken[name])
            for backend, name in ((sqlite_backend, "Turn"), (redis_backend, "Pushes")):
                if name in mistaken and hasattr(module, name):
                    patch.setattr(backend, name, mistaken[name])
        yield


def changed(mutant: Mutant, source: str) -> str:
    """Write the mistake into *source*."""
    assert source.count(mutant.right) == 1, f"{mutant.file} does not have it once: {mutant.right}"
    return source.replace(mutant.right, mutant.wrong)


def survives(mutant: Mutant, dsn: str) -> bool:
    """Whether no test notices the mistake, in a new and empty store."""
    with applied(mutant), closing(open_client(dsn)) as client:
        try:
            mutant.judge(client)
        except (Exception, pytest.fail.Exception):
            return False
    return True


def try_all(console: Console) -> int:
    """Try every mutant, and return how many survive."""
    survivors = 0
    with valkey_server() as server, tempfile.TemporaryDirectory() as folder:
        for number, mutant in enumerate(MUTANTS):
            redis, sqlite = f"{server}?ns={uuid4().hex}", f"sqlite://{folder}/{number}.db"
            dsn = sqlite if mutant.is_of_sqlite else redis
            alive = survives(mutant, dsn)
            survivors += alive
            verdict = "[red]survives[/]" if alive else "[green]is noticed[/]"
            console.print(f"{mutant.file}: {mutant.name} … {verdict}")
    return survivors
