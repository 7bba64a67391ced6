"""The field's folder of the op: aliases of ``racdino.ops``."""
