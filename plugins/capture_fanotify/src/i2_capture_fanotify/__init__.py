"""The best capture for root: fanotify(7) with one mark for each file system, for any number of directories, and one
group for all rules of a process.

`fanotify`, `handle` and `mounts` call the kernel, `event` parses its events; `directories` finds the place of a
directory's handle, `links` tracks files with several names, `roots` locates the rules' roots and `marks` has the
kernel report them; `translate` makes hints of events, `station` reads for all rules, and `capture` is the interface for
one rule."""
