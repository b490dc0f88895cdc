"""What the frames of the run in progress say: events, gaps, and whether the boards are in step."""
