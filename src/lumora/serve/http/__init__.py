"""A pool of bundles over HTTP."""
