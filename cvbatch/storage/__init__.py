"""Disks, buckets and web hosts: locations, access to their bytes and listings, and their errors."""
