"""Running a job on an existing cluster, through Ray's Job API."""
