import argparse
import time
from collections import Counter

import claus.utils.startup  # noqa: F401
from tests.faults import campaign, files

parser = argparse.ArgumentParser()
parser.add_argument("--count", type=int, default=200)
parser.add_argument("--only", default="")
parser.add_argument("--show", type=int, default=6)
args = parser.parse_args()
total = Counter()
for kind in files.KINDS:
    if args.only and args.only not in kind.name:
        continue
    began = time.perf_counter()
    n = max(int(args.count * kind.share), 5)
    try:
        counts, bad = campaign.mutations(kind, n)
    except RuntimeError as e:
        print(kind.name, "FAILED", e)
        continue
    by = Counter()
    for (_, outcome), k in counts.items():
        by[outcome] += k
    total += by
    print(f"{kind.name:30} {n:6} {time.perf_counter() - began:6.1f}s ", dict(by))
    seen = Counter()
    for what, number, outcome, text in bad:
        key = (outcome, text.split(" at ")[-1] if " at " in text else text[:60])
        seen[key] += 1
        if seen[key] == 1 and len(seen) <= args.show:
            print("     ", what, number, outcome, text)
print(dict(total))
