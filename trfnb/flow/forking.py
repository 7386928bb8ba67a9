"""Forked processes compute with one thread each: torch's thread pool does not survive a fork."""

import os

import torch


def one_thread_in_forks() -> None:
    """Let every process forked from this one run torch in a single thread.

    A child that inherits the parent's OpenMP pool waits for threads which it does not have, so
    ``nlp.pipe(..., n_process=2)`` would hang once the parent has run a forward pass. One thread
    a process is also what several processes on the same cores want.
    """
    os.register_at_fork(after_in_child=_use_one_thread)


def _use_one_thread() -> None:
    torch.set_num_threads(1)
