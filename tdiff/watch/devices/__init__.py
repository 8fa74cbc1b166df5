"""The GPUs under a run and the processes of its job: read on this host or on another, as text that a shell collects."""
