"""Questions about drawn scenes, or about images with vectors, as a data set."""
