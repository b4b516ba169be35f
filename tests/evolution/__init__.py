"""Tests of runs whose models change."""
