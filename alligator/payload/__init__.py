"""The payload of a task: check a call, write it, sign it, and read it again."""
