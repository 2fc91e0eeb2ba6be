"""The DSN of SQS, and the encoding of names."""

import re

import pytest

from alligator.backends.sqs_backend import Client
from alligator.backends.sqs_backend.dsn import decode, encode, read_dsn
from alligator.exceptions import ConfigurationError


@pytest.mark.parametrize(
    ("dsn", "region", "endpoint"),
    [
        ("sqs://eu-west-1/", "eu-west-1", None),
        ("sqs://eu-west-1", "eu-west-1", None),
        ("sqs://", None, None),
        ("sqs+http://localhost:9324/", None, "http://localhost:9324"),
        ("sqs+https://sqs.example/?region=us-west-2", "us-west-2", "https://sqs.example"),
    ],
)
def test_dsn_names_a_region_or_a_server(dsn: str, region: str | None, endpoint: str | None) -> None:
    settings = read_dsn(dsn)

    assert (settings.region, settings.endpoint) == (region, endpoint)


@pytest.mark.parametrize(
    ("dsn", "way_out"),
    [
        ("sqs://AKIA:s3cret@eu-west-1/", "AWS_ACCESS_KEY_ID"),
        ("sqs://AKIA@eu-west-1/", "AWS_ACCESS_KEY_ID"),
        ("sqs://eu-west-1/mail", "sqs://region/"),
        ("sqs://localhost:9324/", "region"),
        ("sqs+http:///", "sqs+http://localhost:9324/"),
        ("sqs+http://localhost:x/", "sqs+http://host:port/"),
        ("sqs://eu-west-1/?password=s3cret", "prefix, region, poll, create"),
        ("sqs://eu-west-1/?poll=21", "from 0 to 20"),
        ("sqs://eu-west-1/?poll=0.5", "whole number"),
        ("sqs://eu-west-1/?create=perhaps", "yes or no"),
        ("sqs://eu-west-1/?prefix=a.b", "letters, digits"),
    ],
)
def test_invalid_dsn_is_rejected_with_the_remedy(dsn: str, way_out: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(way_out)) as caught:
        Client(dsn)

    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["mail", "a b", "ü☃", "_x20", "a_x2", "mail_dead", "dead", "_dead_dead", "x.fifo", "\n"]
)
def test_encoded_name_is_decoded_to_the_same_name(name: str) -> None:
    encoded = encode(name)

    assert decode(encoded) == name
    assert re.fullmatch("[A-Za-z0-9_-]+", encoded)
    assert not encoded.endswith("_dead")
