#!/usr/bin/env bash
# Puts what is released into dist/.
set -euo pipefail
echo "Building shop $(cat VERSION)"
rm -rf dist
mkdir dist
cp shop.py restart.sh check.sh VERSION dist/
python3 -m py_compile dist/shop.py
rm -rf dist/__pycache__
echo "Built $(find dist -type f | wc -l) files"
