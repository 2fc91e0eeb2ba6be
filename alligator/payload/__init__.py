"""The payload of a task: check a call, write it, sign it, and read it again.

Its public names, by module:

- arguments: check_call, check_plain, encoding_error, lower, misfit, restore
- batch: Batch, batch_in, with_batch_of
- encoding: encode
- envelope: Content, Envelope, EnvelopeOptions, FunctionName, content_in, last_error_in, name_in,
  released_in, task_id_in, timeout_in
- functions: callee_of, find_function, load, locate, unwrapped
- signing: Guard

Used only in this package: conversion, equality, hints.
"""
