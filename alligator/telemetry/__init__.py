"""What is recorded of tasks: trace context, OpenTelemetry spans, durations, log lines.

Its public names, by module:

- histogram: Histogram
- logs: TaskFilter, about, escape, get_log
- propagation: carried, carry, flush_spans, has_spans, running, sending, trace_id

Used only in this package: opentelemetry.
"""
