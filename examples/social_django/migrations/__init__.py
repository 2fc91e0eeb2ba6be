"""The migrations of the social network."""
