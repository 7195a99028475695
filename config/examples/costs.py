"""What each agent has cost, day by day, in a file of JSON: a command for `type: exec`.

    costs.py FILE

The costs are text of exact decimals, as in the spans. A call of unknown cost is counted as such.
"""

import json
import os
import sys
from collections import OrderedDict
from decimal import Decimal

path = sys.argv[1]
days = json.load(open(path)) if os.path.exists(path) else {}
# A batch can come again: the spans of the last ones are known by their ids.
seen = OrderedDict()

for line in sys.stdin:
    message = json.loads(line)
    for span in message["spans"]:
        if span["span_id"] in seen:
            continue
        seen[span["span_id"]] = None
        if len(seen) > 100_000:
            seen.popitem(last=False)
        attributes = span["attributes"]
        agents = days.setdefault(span["start_time"][:10], {})
        of_agent = agents.setdefault(
            attributes.get("tollgate.agent", "unknown"), {"usd": "0", "unknown": 0}
        )
        cost = attributes.get("tollgate.cost.usd")
        if cost is None:
            of_agent["unknown"] += 1
        else:
            of_agent["usd"] = str(Decimal(of_agent["usd"]) + Decimal(cost))
    # Whole or not at all: the answer says that it is on disk.
    with open(path + ".new", "w") as file:
        json.dump(days, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".new", path)
    print(json.dumps({"ack": message["batch"]}), flush=True)
