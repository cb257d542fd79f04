# SPDX-License-Identifier: Apache-2.0
"""`make bench`: one table, each line with what was measured, ratios against a ruler measured in the same run.

It reports; it never fails by an absolute time.
"""

from __future__ import annotations

import argparse

from bench import asks, broker, decode, identities, memory, polls, revoke


def main() -> None:
    """Run every benchmark; `--short` runs each just long enough to see that it works."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="as CI runs it")
    short = parser.parse_args().short
    for benchmark in (decode, asks, broker, memory, polls, revoke, identities):
        for line in benchmark.run(short):
            print(line, flush=True)


if __name__ == "__main__":
    main()
