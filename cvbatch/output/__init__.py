"""What a run writes: the commit log, data files and the lease, on a disk or in a bucket."""
