"""``companion trial`` up to its first training step, then the time of day: ``python -m benchmarks.first_step …``."""

from __future__ import annotations

import os
import sys
import time

from companion import cli, finetune


def reached(*_) -> None:
    """Stands in for the training loop: say that it was reached, and end."""
    print(time.time(), flush=True)
    os._exit(0)


if __name__ == "__main__":
    finetune.train_epochs = reached
    sys.exit(cli.main(["trial", *sys.argv[1:]]))
