"""The work side's run: opens what it needs, connects, mirrors, replicates, and goes on after whatever breaks."""
