"""The web viewer: an avatar in the browser, rendered by our own rasterizer, finished or during training."""
