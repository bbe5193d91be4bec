"""What is installed beside weftd: the alert rules and the dashboard, as data."""

import json
import os
import re

import yaml

ROOT = os.path.abspath(f"{os.path.dirname(__file__)}/../..")
RULES = f"{ROOT}/helm/weft/rules/weft.yaml"
DASHBOARD = f"{ROOT}/helm/weft/dashboards/weft.json"


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def alerts():
    return [rule for group in yaml.safe_load(read(RULES))["groups"] for rule in group["rules"]]


def panels():
    """Every panel that is no row."""
    return [p for p in json.loads(read(DASHBOARD))["panels"] if p["type"] != "row"]


def label_values(variable):
    """(series, label) that a variable of the dashboard takes its values from."""
    return re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"]).groups()
