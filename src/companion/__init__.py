"""A companion to *Investigating Transferability in Pretrained Language Models* (arXiv 2004.14975).

Trials of fine-tuning with some layers reinitialized or permuted, stored once, and the tables, statistics, figures and
pages made from them. Start at :mod:`companion.experiments`; ``companion --help`` lists the commands.
"""

from importlib.metadata import version

__version__ = version("companion")
