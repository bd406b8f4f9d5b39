"""Asks a Prometheus every query of the dashboards and every rule, until each has given a series. See .ci/monitoring."""

import glob
import json
import re
import sys
import time
import urllib.parse
import urllib.request

PROMETHEUS, TENANT = sys.argv[1:]
# Nothing of the sort happens on a stack that is well, or that speaks in clear.
SILENT = {"JalurSystemUnseen", "JalurCertificateEnds"}
PATIENCE_SECONDS = 120


def panels(dashboard):
    for panel in dashboard["panels"]:
        yield from panels(panel) if panel.get("panels") else [panel]


def queries():
    for path in sorted(glob.glob("deploy/monitoring/grafana/dashboards/*.json")):
        with open(path) as file:
            dashboard = json.load(file)
        for panel in panels(dashboard):
            for target in panel.get("targets", []):
                query = target["expr"].replace("$tenant_id", TENANT).replace("$__rate_interval", "15s")
                yield f"{dashboard['title']}, {panel['title']}", query


def rules():
    with urllib.request.urlopen(f"{PROMETHEUS}/api/v1/rules", timeout=10) as answer:
        groups = json.load(answer)["data"]["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        if rule["name"] in SILENT:
            continue
        query = rule["query"]
        if rule["type"] == "alerting":
            # What is to be alarming is not there; what it is seen by is.
            query = re.sub(r"\s*(?:==|<|>)\s*[\d.]+", "", query)
            query = re.sub(r'code=~"[^"]*"', "", query)
        yield f"rule {rule['name']}", query


def has_series(query):
    body = urllib.parse.urlencode({"query": query}).encode()
    with urllib.request.urlopen(f"{PROMETHEUS}/api/v1/query", body, timeout=10) as answer:
        return bool(json.load(answer)["data"]["result"])


until = time.monotonic() + PATIENCE_SECONDS
while True:
    try:
        asked = [*queries(), *rules()]
        silent = [(what, query) for what, query in asked if not has_series(query)]
    except OSError as error:
        asked, silent = [], [("Prometheus", error)]
    if not silent:
        print(f"{len(asked)} queries, each gives a series")
        break
    if time.monotonic() > until:
        sys.exit("without a series:\n" + "\n".join(f"{what}: {query}" for what, query in silent))
    time.sleep(1)
