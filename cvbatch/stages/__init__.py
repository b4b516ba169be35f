"""Stages of the pipeline, decode and predict, as functions from table to table."""
