#!/bin/sh
# mypy cannot follow a package-directory mapping, so show it the tree as it is imported.
set -e
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-"$root/.venv/bin/python"}
tree="$root/build/typed"
rm -rf "$tree" && mkdir -p "$tree/kernelagent"
for entry in "$root"/kernelagent/*; do ln -s "$entry" "$tree/kernelagent/"; done
for package in dsl solar knowledge_base harness problems; do ln -s "$root/$package" "$tree/kernelagent/$package"; done
cd "$tree"
exec "$python" -m mypy --config-file "$root/pyproject.toml" --cache-dir "$root/.mypy_cache" -p kernelagent "$@"
