"""Helpers for the process: forks, signals, threads, timeouts, standard streams and the logger.

Its public names, by module:

- backoff: pause_after
- cancellation: await_within
- coroutines: await_result, check_is_plain, check_runs, complete, is_awaitable, runs_on_loop
- environment: check_list, gator_settings, read_list
- event_loops: BackgroundLoop, LoopOfCaller, LoopOfThread
- exits: exit_if_forked, exit_within
- failures: describe, hide_our_frames, traceback_of
- flags: InterruptFlag
- forks: register_fork_hooks, run_in_forked_child
- home_loop: LazyLoop, home
- ids: new_id
- interrupts: boundaries, checkpoint, due, package_of
- locks: LazyDict
- log: log
- overrides: check_overrides
- predicates: Predicate, is_coroutine_function
- remote_errors: pack, unpack
- signatures: signature
- streams: escape_unencodable, exit_now, flush, is_terminal, open_missing
- threads: run_in_thread, run_to_end, start_in_thread
- timeouts: call, end_call
"""
