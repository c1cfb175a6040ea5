"""Learning from votes: a taste, a lesson, a gate. in a process of its own; the painter in office is never touched."""
