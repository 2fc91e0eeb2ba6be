"""Fixtures for tests of projects that use Alligator; pytest finds them by itself."""
