"""The tables of a check, and what the issue wants to be true."""

import json
import math

# Title, part, what a row has to be, figure, bar, aim, and whether more is better.
BARS = [
    *(
        (
            f"sampling {size}, {dtype}, batch {batch} [samples/s]",
            "sampling",
            {"name": size, "dtype": dtype, "batch": batch},
            "samples_per_second",
            bar,
            aim,
            True,
        )
        for size, dtype, batch, bar, aim in (
            ("nvidia256", "fp16", 1, 5e6, None),
            ("nvidia256", "fp16", 8, 10e6, 12e6),
            ("base", "bf16", 1, 8e6, None),
            ("base", "bf16", 8, 16e6, 25e6),
            ("small", "bf16", 1, 20e6, None),
            ("small", "bf16", 8, 60e6, 100e6),
        )
    ),
    (
        "training small from train.py, bf16 [segments/s]",
        *("recipe", {"name": "small"}, "segments_per_second", 4000, 10000, True),
    ),
    (
        "training base from train.py, bf16 [segments/s]",
        *("recipe", {"name": "base"}, "segments_per_second", 1000, 3000, True),
    ),
    (
        "training nvidia256, 24 x 16,000, fp16 [samples/s]",
        "training",
        {"name": "nvidia256", "dtype": "fp16", "batch": 24, "samples": 16000},
        *("samples_per_second", 1e6, 2.5e6, True),
    ),
    *(
        (
            f"the first steps of {size}, compiling included [s]",
            "training",
            {"name": size, "dtype": dtype},
            *("first_steps_seconds", 30, 10, False),
        )
        for size, dtype in (("small", "bf16"), ("base", "bf16"), ("nvidia256", "fp16"))
    ),
]
HIDDEN = {"fastest", "gmac_per_audio_second"}


def bars(rows):
    """A row for each bar: its title, what was measured (None: nothing), bar, aim and verdict."""
    found = []
    for title, part, wanted, figure, bar, aim, more in BARS:
        good = [
            row
            for row in rows.get(part, [])
            if "values" in row and wanted.items() <= row["key"].items()
        ]
        # What users get, where there is a choice.
        chosen = [row for row in good if row["key"].get("graphs") == "auto"] or good
        values = [row["values"][figure] for row in chosen]
        verdict, best = "not measured", None
        if values:
            best = max(values)  # of seconds: the longest
            reached = [limit is not None and (best >= limit) == more for limit in (bar, aim)]
            verdict = "aim reached" if reached[1] else "reached" if reached[0] else "missed"
        found.append({"what": title, "measured": best, "bar": bar, "aim": aim, "verdict": verdict})
    return found


def table_of(rows):
    """Markdown of rows that are dicts; a column for each of their keys."""
    columns = list(dict.fromkeys(name for row in rows for name in row if name not in HIDDEN))
    lines = [columns, ["---"] * len(columns)]
    lines += [[shown(row.get(name)) for name in columns] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def shown(value):
    """A cell.

    Example
    -------
    >>> [shown(value) for value in (None, True, 1234567, 0.00012345, 1234.5, "a|b")]
    ['', 'yes', '1,234,567', '0.00012', '1,234', 'a/b']
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{4 if value > 99 else 3}g}"
    return str(value).replace("|", "/").replace("\n", " ")


def with_share(part, row, peaks):
    """The values of a row, and its share of the measured peak."""
    values = dict(row["values"])
    rate, macs = values.get("samples_per_second"), values.get("gmac_per_audio_second")
    peak = peaks.get(row["key"].get("dtype"))
    if part in ("sampling", "training") and rate and macs and peak:
        values["percent_of_peak"] = 100 * 2 * macs * 1e9 * rate / 22050 / (peak * 1e12)
    return values


def peaks_of(rows):
    """Precision -> TFLOP/s of the large matrix product."""
    return {
        row["key"]["dtype"]: row["values"]["tflops"]
        for row in rows.get("machine", [])
        if row["key"]["what"] == "matrix product" and "values" in row
    }


def section(part, rows, missing, ended, seconds, peaks):
    """Markdown of a part: its table, what failed, and what was not run."""
    lines = [f"## {part} ({seconds:.0f} s)", ""]
    good = [row for row in rows if "values" in row]
    if part == "machine":
        good, machine = [r for r in good if r["key"]["what"] != "machine"], good
        for row in machine:
            if row["key"]["what"] == "machine":
                lines += [f"- {name}: {value}" for name, value in row["values"].items()] + [""]
    if good:
        lines += [table_of([{**r["key"], **with_share(part, r, peaks)} for r in good]), ""]
    for row in rows:
        where = ", ".join(str(value) for value in row["key"].values() if value != "")
        if "failed" in row:
            lines.append(f"- **failed**: {where}: {row['failed']}")
        lines += [f"- logged: {where}: {note}" for note in row.get("notes", [])]
    if ended:
        lines.append(f"- the part was ended early: {ended}")
    if missing is None:
        lines.append("- nothing was measured")
    elif missing:
        keys = "; ".join(" ".join(str(v) for v in key.values() if v != "") for key in missing)
        lines.append(f"- not run, for lack of time: {keys}")
    return "\n".join(lines).rstrip() + "\n"


def summary(rows):
    """Markdown: the bars, and how many comparisons and rows failed."""
    lines = ["## What must be true at the end", "", table_of(bars(rows)), ""]
    compared = [row for part in rows.values() for row in part if "passed" in row.get("values", {})]
    wrong = [row for row in compared if not row["values"]["passed"]]
    failed = [row for part in rows.values() for row in part if "failed" in row]
    lines.append(f"{len(compared)} comparisons, of which {len(wrong)} miss their bar:")
    lines += [f"- {describe(row)}: {shown(row['values'].get('figure'))}" for row in wrong]
    lines.append(f"{len(failed)} rows have failed:")
    lines += [f"- {describe(row)}: {row['failed']}" for row in failed]
    return "\n".join(lines) + "\n"


def describe(row):
    """Part and key of a row."""
    return ", ".join([row["part"], *(str(value) for value in row["key"].values() if value != "")])


def strict(value):
    """For JSON, which has no NaN."""
    if isinstance(value, dict):
        return {str(k): strict(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def as_json(report):
    """The text of a report's file."""
    return json.dumps(strict(report), indent=2, default=str) + "\n"
