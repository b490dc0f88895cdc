"""Brings the files of a closed run together as the merger reads them: one folder for each CoBo."""
