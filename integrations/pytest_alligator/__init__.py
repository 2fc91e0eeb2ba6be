"""Fixtures for the tests of projects that use Alligator; pytest loads them as a plugin.

Its public names, by module:

- plugin: the fixtures alligator_sync, alligator_tasks and gator
"""
