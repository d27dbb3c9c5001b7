#!/bin/sh
# dlbench export otava, read and searched by Apache Otava itself: it must see the steps that
# were put in, where they were put, and where dlbench history sees them too.
#   test_export_otava.sh SOURCES BUILD
top=$1 bench=$2/bench/dlbench python=/usr/bin/python3
PYTHONPATH=$top/build/otava
export PYTHONPATH
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
cat >run.py <<'PYTHON'
# Otava without the services that it could also read from or write to.
import sys
from unittest.mock import MagicMock
for name in "google", "google.cloud", "google.oauth2", "slack_sdk", "pg8000":
    sys.modules[name] = MagicMock()
from otava.main import main
main()
PYTHON
"$python" run.py --help >/dev/null 2>stderr || {
    echo 'skipped: Apache Otava is missing (tests/run fetches it):'
    tail -n 1 stderr
    exit 77
}

# 40 nights of the first six rows of the sample with 1 % noise.  Row 3 is slower by 8 % from
# night 25 on, row 4 faster by 10 % from night 12 on, and row 6 is missing in every tenth.
"$python" - "$top/results/sample" <<'PYTHON' || exit 1
import csv, datetime, json, os, random, sys
random.seed(4)
manifest = json.load(open(sys.argv[1] + "/manifest.json"))
with open(sys.argv[1] + "/results.csv", newline="") as source:
    reader = csv.DictReader(source)
    rows = [row for row in reader if int(row["row_seq"]) <= 6]
for night in range(40):
    when = datetime.datetime(2026, 1, 1, 2) + datetime.timedelta(days=night)
    run = {"run_id": f"night-{night:02d}", "started_utc": when.isoformat() + "Z"}
    os.makedirs(f"nights/{night:02d}")
    json.dump({**manifest, **run}, open(f"nights/{night:02d}/manifest.json", "w"))
    with open(f"nights/{night:02d}/results.csv", "w", newline="") as target:
        writer = csv.DictWriter(target, reader.fieldnames, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            sequence = int(row["row_seq"])
            factor = random.lognormvariate(0, 0.01)
            factor *= 1.08 if sequence == 3 and night >= 25 else 1
            factor *= 0.9 if sequence == 4 and night >= 12 else 1
            if sequence == 6 and night % 10 == 9:
                continue
            writer.writerow({**row, "run_id": run["run_id"], "timestamp_utc": run["started_utc"],
                             "time_median_ns": float(row["time_median_ns"]) * factor})
PYTHON

"$bench" export otava=out.csv nights || exit 1
"$bench" history --format json nights >history.json || exit 1
for test in dlbench-1 dlbench-2; do
    "$python" run.py analyze --config-file out.yaml --since 2000-01-01 --output json $test \
        >$test.json 2>stderr || {
        echo 'Otava refuses the export:'
        cat stderr
        exit 1
    }
done
"$python" run.py validate --config-file out.yaml >stdout 2>stderr || {
    echo 'Otava calls the YAML invalid:'
    cat stdout stderr
    exit 1
}
"$python" - "$top/results/sample" <<'PYTHON'
import csv, datetime, json, sys
with open(sys.argv[1] + "/results.csv", newline="") as source:
    shapes = [(row["shape"], row["impl"], row["thread_set"]) for row in csv.DictReader(source)]
found = {}
for test, cases in ("dlbench-1", 5), ("dlbench-2", 1):
    header = next(csv.reader(open("out.csv" if test == "dlbench-1" else "out-2.csv")))
    assert len(header) == 3 + cases, header
    (report,) = json.load(open(test + ".json")).values()
    for point in report:
        night = datetime.datetime.fromtimestamp(point["time"], datetime.timezone.utc)
        for change in point["changes"]:
            found.setdefault(change["metric"], []).append(
                ((night - datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)).days,
                 float(change["forward_change_percent"])))
history = {}
for change in json.load(open("history.json"))["changes"]:
    key = (change["shape"], change["impl"], change["thread_set"])
    history[key] = (int(change["night"]["run_id"][-2:]), 100 * (change["ratio"] - 1))
expected = {shapes[2]: (25, 8), shapes[3]: (12, -10)}
assert set(history) == set(expected), history
assert len(found) == 2, found
for (shape, impl, threads), (night, percent) in expected.items():
    (metric,) = [name for name in found if f"/{shape}/{impl}/{threads}/" in name]
    for who, (at, size) in ("otava", *found[metric]), ("history", history[shape, impl, threads]):
        assert abs(at - night) <= 1 and abs(size - percent) < 2, (who, metric, at, size)
PYTHON
