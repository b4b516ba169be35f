"""Running a job on a cluster that stands: through Ray's Job API."""
