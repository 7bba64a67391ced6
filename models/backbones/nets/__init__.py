"""The field's folder of networks: aliases only."""
