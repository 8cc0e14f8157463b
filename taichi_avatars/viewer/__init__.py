"""The web viewer: an avatar in the browser, rendered by our own rasterizer, alone or while it is trained."""
