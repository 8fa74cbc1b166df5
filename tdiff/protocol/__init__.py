"""What crosses a process boundary: the events of a run, the trace of a generation, the view's messages. No torch."""
