"""Fixtures for the tests of projects that use Alligator; pytest loads them as a plugin."""
