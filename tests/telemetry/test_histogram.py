"""How long things take, in buckets."""

import pytest

from alligator.telemetry.histogram import BOUNDS, Histogram


def of(*seconds: float) -> Histogram:
    histogram = Histogram()
    for each in seconds:
        histogram.add(each)
    return histogram


def test_value_is_counted_in_its_bucket() -> None:
    histogram = of(0.001, 0.0011, 10_000.0)

    assert histogram.count == 3
    assert histogram.buckets[:2] == [1, 1]
    assert histogram.buckets[-1] == 1
    assert histogram.seconds == pytest.approx(10_000.0021)


def test_figures_of_several_add_up_to_one_of_all() -> None:
    sums: dict[str, int] = {}
    for histogram in (of(0.02, 0.3), of(0.3, 7.0)):
        for name, number in histogram.figures("run").items():
            sums[name] = sums.get(name, 0) + number

    together = Histogram.read("run", sums)

    assert together.buckets == of(0.02, 0.3, 0.3, 7.0).buckets
    assert together.mean == pytest.approx(7.62 / 4)


def test_empty_histogram_has_no_figures_and_no_quantiles() -> None:
    histogram = Histogram()

    assert histogram.figures("run") == {}
    assert histogram.mean is histogram.quantile(0.5) is None


def test_quantile_lies_in_the_bucket_of_its_value() -> None:
    histogram = of(*[0.03] * 90, *[2.0] * 10)

    median, late = histogram.quantile(0.5), histogram.quantile(0.99)

    assert median is not None
    assert 0.025 < median <= 0.05
    assert late is not None
    assert 1.0 < late <= 2.5


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
def test_quantile_is_an_upper_bound(share: float) -> None:
    one = of(20.0).quantile(share)
    several = of(*[20.0] * 20).quantile(share)
    mixed = of(*[0.01] * 100, *[20.0] * 150).quantile(share)

    assert one == pytest.approx(20.0, abs=1e-5)  # there is no longer one
    assert several == mixed == 30.0


def test_quantile_beyond_the_buckets_is_the_last_bound() -> None:
    assert of(1e6).quantile(0.5) == BOUNDS[-1]
