"""Common data layouts into the data contract: one module a layout, `registry` runs them. No Spark: they start at once."""
