"""From an ordinary video of a face to a capture of the built-in head."""
