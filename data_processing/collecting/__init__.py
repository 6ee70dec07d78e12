"""A collection as shards: read, judged, compared and put end to end, in processes or on a cluster."""
