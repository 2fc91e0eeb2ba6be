"""What is recorded of tasks: trace context, OpenTelemetry spans, durations, log lines."""
