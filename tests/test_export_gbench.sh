#!/bin/sh
# --export gbench and gbench-median, read by google benchmark's own compare.py.
#   test_export_gbench.sh SOURCES BUILD
top=$1 bench=$2/bench/dlbench compare=/usr/share/benchmark/compare.py python=/usr/bin/python3
[ -r "$compare" ] && "$python" -c 'import scipy' 2>/dev/null || {
    echo "skipped: compare.py (Debian: libbenchmark-tools) or SciPy (python3-scipy) is missing"
    exit 77
}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1

# Two runs of the first rows of the sample; in the second one a case is slower by 12 %.
"$python" - "$top/results/sample" <<'PYTHON' || exit 1
import csv, os, shutil, sys
sample = sys.argv[1]
for run, slower in ("base", 1.0), ("new", 1.12):
    os.mkdir(run)
    shutil.copy(sample + "/manifest.json", run)
    for table in "results.csv", "samples.csv":
        with open(f"{sample}/{table}", newline="") as source, \
                open(f"{run}/{table}", "w", newline="") as target:
            rows = csv.DictReader(source)
            writer = csv.DictWriter(target, rows.fieldnames, lineterminator="\n")
            writer.writeheader()
            for row in rows:
                if int(row["row_seq"]) > 6:
                    break
                time = "time_median_ns" if table == "results.csv" else "ns"
                if row["row_seq"] == "3":
                    row[time] = float(row[time]) * slower
                writer.writerow(row)
PYTHON

for kind in gbench gbench-median; do
    for run in base new; do
        "$bench" export $kind=$run.json $run || exit 1
    done
    # It writes colours, and its report once more as JSON.
    "$python" "$compare" --no-color -d report.json benchmarks base.json new.json >stdout 2>&1 || {
        echo "compare.py refuses $kind:"
        cat stdout
        exit 1
    }
    "$python" - $kind <<'PYTHON' || exit 1
import csv, json, sys
kind = sys.argv[1]
report = [entry for entry in json.load(open("report.json")) if entry["name"] != "OVERALL_GEOMEAN"]
cases = {row["case_id"]: row for row in csv.DictReader(open("base/results.csv")) if row["status"] == "ok"}
assert len(report) == len(cases) == 6, (len(report), len(cases))
for entry, row in zip(report, cases.values()):
    name = entry["name"]
    assert row["shape"] in name and "/" + row["impl"] + "/" in name, name
    changed = row["row_seq"] == "3"
    times = entry["measurements"]
    assert len(times) == (1 if kind == "gbench-median" else int(row["samples_n"])), name
    for pair in times:
        assert abs(pair["time"] - (0.12 if changed else 0)) < 1e-6, (name, pair)
        assert entry["time_unit"] == "ns"
    if kind == "gbench-median":
        assert abs(times[0]["real_time"] / float(row["time_median_ns"]) - 1) < 1e-9
        assert not entry["utest"]
    else:  # its U test sees the repetitions
        assert (entry["utest"]["time_pvalue"] < 0.001) == changed, (name, entry["utest"])
PYTHON
done
