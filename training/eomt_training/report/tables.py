# SPDX-License-Identifier: MIT
"""The report's tables as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from ..evaluation.results import measurements

SCORE_COLUMNS = {
    "auprc": "AuPRC",
    "auroc": "AUROC",
    "fpr95": "FPR95",
    "tnr_at_tpr80": "TNR@80",
    "tnr_at_tpr90": "TNR@90",
    "tnr_at_tpr99": "TNR@99",
    "best_f1": "best F1",
    "auprc_surface": "AuPRC on road",
    "siou": "sIoU",
    "ppv": "PPV",
    "f1_star": "F1*",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """First column left, others right; cells are HTML already. A row that begins with ``*`` is bold."""
    cells = "".join(f"<th{' class=n' if i else ''}>{escape(text)}</th>" for i, text in enumerate(head))
    body = []
    for row in rows:
        main, row = (" class=main", row[1:]) if row[0] == "*" else ("", row)
        body.append(f"<tr{main}>" + "".join(
            f"<td{' class=n' if i else ''}>{cell}</td>" for i, cell in enumerate(row)) + "</tr>")  # fmt: skip
    return f'<table class="{kind}"><tr>{cells}</tr>{"".join(body)}</table>'


def number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def scores_table(scores: dict[str, dict[str, float]], main: str) -> str:
    """Every score, the best AuPRC first."""
    shown = {k: title for k, title in SCORE_COLUMNS.items() if any(k in row for row in scores.values())}
    rows = []
    for name, row in by_auprc(scores):
        cells = [number(row.get(k)) for k in shown]
        cells[0] += f"<br><small>{number(row['auprc_low'])} to {number(row['auprc_high'])}</small>"
        rows.append([*(["*"] if name == main else []), f"<code>{escape(name)}</code>", *cells])
    return table(["score", *shown.values()], rows)


def conditions_table(result: dict[str, Any]) -> str:
    """AuPRC and FPR95 of each model and score, clean and degraded, and the rates at the alert threshold."""
    found = list(measurements(result))
    conditions = list(dict.fromkeys(condition for _, condition, _ in found))
    by_key = {(model, condition): measured for model, condition, measured in found}
    rows = []
    for model in dict.fromkeys(model for model, _, _ in found):
        for name, _ in by_auprc(by_key[model, "clean"]["scores"]):
            cells = [
                f"<code>{escape(name)}</code>{f' of {escape(model)}' if result.get('baselines') else ''}"
            ]
            for condition in conditions:
                row = by_key.get((model, condition), {}).get("scores", {}).get(name, {})
                cell = f"{number(row.get('auprc'))} / {number(row.get('fpr95'))}"
                if "fpr_at_threshold" in row:
                    cell += (f"<br><small>fires: {number(row['fpr_at_threshold'], 2)} % of normal, "
                             f"{number(row['tpr_at_threshold'])} % of anomalous</small>")  # fmt: skip
                cells.append(cell)
            rows.append(cells)
    return table(["AuPRC % / FPR95 %", *conditions], rows)


def iou_table(result: dict[str, Any]) -> str:
    """IoU by class, a column for each model and condition."""
    found = list(measurements(result))
    head = [model if condition == "clean" else f"{model}, {condition}" for model, condition, _ in found]
    rows = [[escape(name), *(number(m["iou"].get(name)) for _, _, m in found)] for name in result["iou"]]
    for label, key in (("mIoU", "miou"), ("mAcc", "macc"), ("aAcc", "aacc")):
        rows.append(["*", label, *(number(m[key]) for _, _, m in found)])
    return table(["IoU %", *head], rows)


def confusion_table(names: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Shares of each true class (row) by predicted class (column), %, shaded by size; for few classes."""
    if len(names) > 40:
        return f"<p>{len(names)} classes: too many to print; the JSON of --output has the matrix.</p>"
    rows = []
    for name, row in zip(names, counts):
        total = max(sum(row), 1)
        cells = [f"<b>{escape(name)}</b>"]
        for count in row:
            share = count / total
            shade = f"background:color-mix(in srgb, var(--blue) {round(85 * share**0.6)}%, transparent)"
            shade += ";color:#fff" if share > 0.4 else ""
            text = "" if share < 0.0005 else f"{100 * share:.1f}"
            cells.append(f'<div style="{shade}" title="{count} pixels">{text or "&nbsp;"}</div>')
        rows.append(cells)
    return table(["truth \\ predicted", *names], rows, "confusion")


def by_auprc(scores: dict[str, dict[str, float]]) -> list[tuple[str, dict[str, float]]]:
    return sorted(scores.items(), key=lambda item: -item[1]["auprc"])
