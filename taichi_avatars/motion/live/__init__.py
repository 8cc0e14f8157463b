"""Motion that arrives while it happens: from phones, face-tracking programs, programs of one's own, and webcams."""
