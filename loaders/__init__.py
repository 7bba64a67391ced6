"""Upstream's name for the data code; data sets and pipelines are registered here once ``racdino`` has them."""
