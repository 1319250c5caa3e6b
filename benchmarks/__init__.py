"""How fast this code is, beside the procedure as released and transformers' Trainer: ``python -m benchmarks --help``.

``plan`` lists what is measured, ``child`` measures one thing in a fresh process, ``as_released`` and ``with_trainer``
are the procedures to compare with, ``flops`` counts useful arithmetic, ``record`` keeps results in one JSON file. The
book's page is drawn from that file by :mod:`companion.speed`.
"""
