#!/bin/sh
# Builds the wheel, installs it with nothing but its dependencies, and runs it from a directory that
# holds a problems/ folder and a harness.py of its own: neither may shadow ours.
set -e
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-"$root/.venv/bin/python"}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m build --wheel --outdir "$work/dist" "$root" >"$work/build.log" 2>&1 || { tail -20 "$work/build.log"; exit 1; }
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check -c "$root/constraints.txt" "$work"/dist/*.whl
mkdir -p "$work/home/problems" && cd "$work/home"
echo 'raise RuntimeError("a foreign problems package was imported")' >problems/__init__.py
echo 'raise RuntimeError("a foreign harness module was imported")' >harness.py
export KERNELAGENT_HOME="$work/state"
"$work/venv/bin/kernelagent" --help >/dev/null
"$work/venv/bin/kernelagent" problems list
"$work/venv/bin/kernelagent" sol softmax --chip h100_sxm --json >/dev/null
"$work/venv/bin/kernelagent" optimize run softmax --trials 2 --workload small --json >result.json
"$work/venv/bin/python" -c "import json; r = json.load(open('result.json')); assert r['best']['status'] == 'PASSED', r; print('wheel ok:', r['problem'])"
