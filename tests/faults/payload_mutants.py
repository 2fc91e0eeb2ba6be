"""Introduce mistakes into the payload: its tests must detect them.

Each mistake needs a process of its own, because most modules import from the payload.
"""

import subprocess
import sys
from typing import NamedTuple

from tests.harness.programs import ROOT, environment

ARGUMENTS = "tests/payload/test_arguments.py"
FUNCTIONS = "tests/payload/test_functions.py"
CONVERSION = "tests/payload/test_conversion.py"
ENCODING = "tests/payload/test_encoding.py"
ENVELOPE = "tests/payload/test_envelope.py"
EQUALITY = "tests/payload/test_equality.py"
HINTS = "tests/payload/test_hints.py"
SIGNING = "tests/payload/test_signing.py"


class PayloadMutant(NamedTuple):
    """A mistake: in this module of the payload, *right* is replaced by *wrong*."""

    name: str
    module: str
    right: str
    wrong: str
    test: str


PAYLOAD_MUTANTS = [
    PayloadMutant(
        "infinity is written", "arguments", "return isfinite(value)", "return True", ARGUMENTS
    ),
    PayloadMutant(
        "any key of a dict is plain",
        "arguments",
        "if type(key) is not str:",
        "if False:",
        ARGUMENTS,
    ),
    PayloadMutant(
        "a tuple is a list even if it is annotated",
        "arguments",
        "and not hint.has_tuples:",
        "and True:",
        ARGUMENTS,
    ),
    PayloadMutant(
        "what is converted is not marked",
        "arguments",
        "typed[str(place)] = type(value).__name__",
        "pass",
        ARGUMENTS,
    ),
    PayloadMutant(
        "keyword arguments are not looked at",
        "arguments",
        "for value in kwargs.values():\n                if type(value) not in SCALARS and",
        "for value in kwargs.values():\n                if False and",
        ARGUMENTS,
    ),
    PayloadMutant(
        "a call is not bound again",
        "arguments",
        "    try:\n        callee_of(func).check(args, kwargs)",
        "    try:\n        pass",
        ARGUMENTS,
    ),
    PayloadMutant(
        "what is restored is not compared",
        "hints",
        "found = difference(value, restored)",
        "found = None",
        ARGUMENTS,
    ),
    PayloadMutant(
        "the name of the type does not choose among a union",
        "hints",
        "self._type.restore(lowered, kind)",
        "self._type.restore(lowered)",
        ARGUMENTS,
    ),
    PayloadMutant(
        "a decorator hides the annotations",
        "hints",
        "func = inner",
        "break",
        HINTS,
    ),
    PayloadMutant(
        "types are not compared", "equality", "if kind is not type(after):", "if False:", EQUALITY
    ),
    PayloadMutant(
        "fold is not compared", "equality", "before.fold != after.fold or", "", ARGUMENTS
    ),
    PayloadMutant(
        "time zones are not compared",
        "equality",
        "return zone == other or (",
        "return True or (",
        ARGUMENTS,
    ),
    PayloadMutant(
        "members of a union are not compared as JSON",
        "conversion",
        "if to_json(found) == value:",
        "if True:",
        CONVERSION,
    ),
    PayloadMutant(
        "a float takes no int", "conversion", "return int | float", "return kind", ARGUMENTS
    ),
    PayloadMutant(
        "lone surrogates are not written",
        "encoding",
        "except UnicodeEncodeError:",
        "except ZeroDivisionError:",
        ENCODING,
    ),
    PayloadMutant(
        "what msgspec refuses is not read",
        "encoding",
        "        return json.loads(text)",
        "        raise",
        ENCODING,
    ),
    PayloadMutant(
        "JSON is not ASCII",
        "encoding",
        "text if text.isascii() else",
        "text if True else",
        ENCODING,
    ),
    PayloadMutant(
        "unknown keys are forgotten",
        "envelope",
        "{**known, **call, **unknown}",
        "{**known, **call}",
        ENVELOPE,
    ),
    PayloadMutant(
        "unknown options are forgotten",
        "envelope",
        "options.keys() - KNOWN_OPTIONS",
        "()",
        ENVELOPE,
    ),
    PayloadMutant(
        "a retry has the current call",
        "envelope",
        "{**known, **call,",
        "{**call, **known,",
        ARGUMENTS,
    ),
    PayloadMutant(
        "empty arguments are not written",
        "envelope",
        "default_factory=_no_kwargs",
        "default_factory=dict",
        ENVELOPE,
    ),
    PayloadMutant(
        "releases are counted from the last", "envelope", "min(before.since, now)", "now", ENVELOPE
    ),
    PayloadMutant(
        "hooks may be any function",
        "envelope",
        "FunctionName(self.module, self.callable), *hooks]",
        "FunctionName(self.module, self.callable)]",
        SIGNING,
    ),
    PayloadMutant(
        "any signature is good",
        "signing",
        "if compare_digest(",
        "if True or compare_digest(",
        SIGNING,
    ),
    PayloadMutant(
        "one argument too many is taken",
        "functions",
        "if number > self.most:",
        "if number > self.most + 1:",
        FUNCTIONS,
    ),
]


def survives(mutant: PayloadMutant) -> bool:
    """Return whether the tests do not detect the mistake."""
    changes = {
        "MUTATED": f"alligator.payload.{mutant.module}",
        "RIGHT": mutant.right,
        "WRONG": mutant.wrong,
    }
    options = ["-q", "-x", "-p", "tests.harness.mutation", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, mutant.test],
        cwd=ROOT,
        env=environment(changes),
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.returncode == 0
