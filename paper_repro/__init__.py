"""Every figure and table of the paper, from data to page."""
