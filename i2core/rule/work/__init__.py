"""The work side's run: opens its resources, connects, mirrors, replicates, and resumes after failures."""
