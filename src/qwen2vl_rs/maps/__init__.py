"""Questions asked of window after window of a scene."""
