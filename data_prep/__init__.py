"""From a shop's tables to the prepared data set (core.prepared): importers, the simulator, and `prepare` on Spark."""
