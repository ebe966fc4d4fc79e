"""Makes the published schema of fly.toml strict: an unknown key, most often a misspelt one, is an error.

    strict_fly_schema.py PUBLISHED >STRICT

The published schema allows any key anywhere, and flyctl ignores what it does not know without a word:
`[[http_service.check]]` would be a deployment without a check. What the schema lacks and flyctl knows is added
here (flyctl's internal/appconfig/config.go and toplevelcheck.go, August 2026).
"""

import json
import sys

DURATION = {"type": ["string", "number"]}
STRINGS = {"type": "array", "items": {"type": "string"}}
CHECK = {
    "type": "object",
    "additionalProperties": False,
    "required": ["type", "port"],
    "properties": {
        "type": {"enum": ["http", "tcp"]},
        "port": {"type": "integer"},
        "interval": DURATION,
        "timeout": DURATION,
        "grace_period": DURATION,
        "method": {"type": "string"},
        "path": {"type": "string"},
        "protocol": {"enum": ["http", "https"]},
        "tls_skip_verify": {"type": "boolean"},
        "tls_server_name": {"type": "string"},
        "headers": {"type": "object"},
        "processes": STRINGS,
    },
}
RESTART = {
    "type": "array",
    "items": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "policy": {"enum": ["always", "never", "on-failure"]},
            "retries": {"type": "integer"},
            "processes": STRINGS,
        },
    },
}


def close(node):
    """Objects with named properties take no others; maps (env, processes, headers) stay maps."""
    if isinstance(node, dict):
        if "properties" in node:
            node["additionalProperties"] = False
        for value in node.values():
            close(value)
    elif isinstance(node, list):
        for value in node:
            close(value)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        schema = json.load(file)
    close(schema["definitions"])
    definitions = schema["definitions"]
    top = definitions["FlyIoConfigSchemaFlyToml"]["properties"]
    top["checks"] = {"type": "object", "additionalProperties": CHECK}
    top["restart"] = RESTART
    for service in (top["http_service"], definitions["Services"]):
        service["properties"]["processes"] = STRINGS
    # https://fly.io/docs/reference/configuration: at most 300 seconds.
    top["kill_timeout"] = {"type": "integer", "minimum": 1, "maximum": 300}
    json.dump(schema, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
