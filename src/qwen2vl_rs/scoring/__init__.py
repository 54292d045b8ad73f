"""From judged answers to figures: metrics, intervals, baselines, comparison."""
