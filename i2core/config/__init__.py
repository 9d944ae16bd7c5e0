"""Config files: TOML on disk, frozen attrs values in memory (`model`), every mistake reported at once with its
line (`load`). Nothing here touches a source, a replica or the network."""
