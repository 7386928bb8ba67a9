"""The statistics of `trfnb.statistics`, under their name of before."""

from trfnb.statistics import *  # noqa: F403
