"""An avatar that moves while it is filmed: pictures for files, other programs and virtual cameras."""
