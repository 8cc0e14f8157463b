"""Live output of an avatar: pictures for files, other programs and virtual cameras."""
