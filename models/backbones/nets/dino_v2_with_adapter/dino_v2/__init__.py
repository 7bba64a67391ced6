"""The field's folder of the DINOv2 trunk: aliases only."""
