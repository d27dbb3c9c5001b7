#!/bin/sh
# --export bmf and action against what their readers accept, as JSON schemas: Bencher's
# published one with its limits for names, and for github-action-benchmark's
# customSmallerIsBetter the entries of its documentation.  Neither reader can be had from a
# package.  gbench-median, which its googlecpp reader takes, is checked here as well.
#   test_export_schema.sh SOURCES BUILD
top=$1 bench=$2/bench/dlbench python=/usr/bin/python3
"$python" -c 'import jsonschema' 2>/dev/null || {
    echo 'skipped: jsonschema (Debian: python3-jsonschema) is missing'
    exit 77
}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
for kind in bmf action gbench-median; do
    "$bench" export $kind=$kind.json "$top/results/sample" || exit 1
done
"$python" - "$top/results/sample" <<'PYTHON'
import csv, json, sys
from jsonschema import Draft7Validator

number = {"type": "number"}
text = {"type": "string", "minLength": 1}
metric = {"type": "object", "required": ["value"], "additionalProperties": False,
          "properties": {"value": number, "lower_value": number, "upper_value": number}}
measures = {"type": "object", "minProperties": 1, "propertyNames": {"maxLength": 64},
            "additionalProperties": metric}
schemas = {
    "bmf": {"type": "object", "additionalProperties": measures,
            "propertyNames": {"minLength": 1, "maxLength": 1024}},
    "action": {"type": "array", "items": {
        "type": "object", "required": ["name", "unit", "value"], "additionalProperties": False,
        "properties": {"name": text, "unit": text, "value": number, "range": text,
                       "extra": {"type": "string"}}}},
    "gbench-median": {"type": "object", "required": ["context", "benchmarks"], "properties": {
        "context": {"type": "object", "required": ["date", "num_cpus", "library_build_type"]},
        "benchmarks": {"type": "array", "items": {
            "type": "object",
            "required": ["name", "real_time", "cpu_time", "time_unit", "iterations", "threads"],
            "properties": {"name": text, "real_time": number, "cpu_time": number,
                           "time_unit": {"enum": ["ns", "us", "ms", "s"]},
                           "iterations": {"type": "integer", "minimum": 1},
                           "run_type": {"const": "iteration"}}}}}},
}


def refuse_twins(pairs):  # a name twice would lose a case without a word
    assert len(dict(pairs)) == len(pairs), [key for key, _ in pairs]
    return dict(pairs)


with open(sys.argv[1] + "/results.csv", newline="") as source:
    medians = [float(row["time_median_ns"]) for row in csv.DictReader(source) if row["status"] == "ok"]
assert medians
for kind, schema in schemas.items():
    Draft7Validator.check_schema(schema)
    export = json.load(open(kind + ".json"), object_pairs_hook=refuse_twins)
    Draft7Validator(schema).validate(export)
    if kind == "bmf":
        values = [case["latency"]["value"] for case in export.values()]
        assert all(case["latency"]["lower_value"] <= case["latency"]["value"]
                   <= case["latency"]["upper_value"] for case in export.values())
    else:
        entries = export if kind == "action" else export["benchmarks"]
        values = [entry["value" if kind == "action" else "real_time"] for entry in entries]
        assert len({entry["name"] for entry in entries}) == len(entries)
    assert values == medians, kind
PYTHON
