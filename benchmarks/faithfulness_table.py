"""The tables of docs/faithfulness.md out of a run's bench: ``python … RUN/faithfulness.json``.

Prints the protocols it was made by, what was asked of how many pictures, one row a method (in the
order of mean ranks) and control, the recommendation with its limits, and what each method costs.
"""

import argparse
import json
from pathlib import Path

COLUMNS = {
    "saco_score": "SaCo",
    "sensitivity_n_score": "sensitivity-n",
    "contrast_score": "contrast",
    "mosaic_score": "mosaic",
    "stability_score": "stability",
    "pointing_score": "pointing",
    "randomization_error": "share without learning",
}


def number(value):
    """Write a number as the page does: no zero before the point, a true minus."""
    if value is None:
        return "n/a"
    words = f"{abs(value):.2f}".removeprefix("0")
    return f"\N{MINUS SIGN}{words}" if value < 0 and float(f"{value:.2f}") else words


def cell(found, *, bounds):
    if found is None:
        return ""
    words = number(found["value"])
    return f"{words} ({number(found['low'])} to {number(found['high'])})" if bounds else words


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    found = json.loads(parser.parse_args().file.read_text())
    tables, settings = found["tables"], found["settings"]
    gains = {
        name: f"{name.removeprefix('removal_gain/').replace('_', ' ')}: gain"
        for name in tables
        if name.startswith("removal_gain/")
    }
    columns = {name: title for name, title in {**gains, **COLUMNS}.items() if name in tables}
    print(f"{found['num_cases']} pictures, {found['num_units']} of unit {found['unit']};", end=" ")
    print(f"protocols {', '.join(settings['protocols'])}; forecast", end=" ")
    print(f"{settings.get('forecast_seconds', '?')} s\n")
    print("| | " + " | ".join(columns.values()) + " | mean rank (best to worst) |")
    print("|---" * (len(columns) + 2) + "|")
    for name in (*found["methods"], *found["controls"]):
        cells = [
            cell(tables[test].get(name), bounds=place == 0) for place, test in enumerate(columns)
        ]
        if name in found["ranks"]:
            rank = found["ranks"][name]
            cells.append(f"{rank['mean']:.1f} ({rank['best']:g} to {rank['worst']:g})")
        else:
            cells.append("control")
        passed = found["randomization_passed"].get(name)
        cells[-2] += ", fails" if passed is False and name in found["methods"] else ""
        print(f"| {name if name in found['methods'] else f'*{name}*'} | {' | '.join(cells)} |")
    chosen = found["recommendation"]
    print(f"\nRecommended: {chosen['method'] or 'none'}: {chosen['reason']}")
    for sentence in (*chosen["limits"], *found["warnings"]):
        print(f"- {sentence}")
    print("\n| | by itself, ms a picture | passes |\n|---|---|---|")
    for name, cost in found["costs"].items():
        print(f"| {name} | {cost['milliseconds']:.0f} | {cost['forwards']:.1f} |")


if __name__ == "__main__":
    main()
