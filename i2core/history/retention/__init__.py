"""What of the past is kept, and how the rest is given up.

    clock, lock ──▶ policy ──▶ state ──▶ choice ──▶ joint ──▶ sweep       thinner: the runner
                      ▲        kept         ▲        merge (rows), carry (old bytes)
                   applied                 pins      held: what it needs of an open history

First it is decided which moments stay (`policy`), by a clock that no jump can hurry; that is noted in the journal
(`promise`, `state`). Then (`giving_up`) segments of the journal are dropped or merged together with the partitions of
the index (`joint`): rows without a kept moment are left out. At last objects are deleted that no row names any more
(`sweep`). `objective` and `forecast` say what the config promises against what is there, and when the disk will be
full. All that gives up something of the past for good is in this package.
"""
