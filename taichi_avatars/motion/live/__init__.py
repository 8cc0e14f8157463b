"""Motion that arrives live: from phones, face-tracking programs, custom programs, and webcams."""
