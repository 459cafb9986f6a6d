"""Figures, ratios against targets, and the table that shows them."""
import json
import statistics


def quantile(values, q):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def number(value):
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(values):
    if not values:
        return "-"
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))}..{number(max(values))})"


class Report:
    """
    Collects rows in the order in which they are shown.

    A figure is an absolute value (noisy: it belongs to this machine at this hour). A ratio compares two figures of the same run, round by
    round, because neighbours in time see the same noise; it is what can be trusted, and what has a target.
    """

    def __init__(self):
        self.rows = []

    def figure(self, workload, what, values, unit, cpu=(), note=""):
        self.rows.append({"kind": "figure", "workload": workload, "what": what, "values": list(values), "unit": unit,
                          "cpu_us": [c for c in cpu if c is not None], "note": note})

    def ratio(self, workload, what, above, below, at_least=None, at_most=None, unit="x"):
        """above / below, both lists with one value for each round."""
        if len(above) == len(below):
            values = [a / b for a, b in zip(above, below) if b]
        else:
            values = [statistics.median(above) / statistics.median(below)] if above and below else []
        self.check(workload, what, values, unit, at_least, at_most)

    def check(self, workload, what, values, unit, at_least=None, at_most=None):
        """A value that is compared with a target as it is."""
        verdict = ""
        if values and (at_least is not None or at_most is not None):
            middle = statistics.median(values)
            good = (at_least is None or middle >= at_least) and (at_most is None or middle <= at_most)
            verdict = "pass" if good else "FAIL"
        target = f">= {at_least}" if at_least is not None else f"<= {at_most}" if at_most is not None else ""
        self.rows.append({"kind": "ratio", "workload": workload, "what": what, "values": list(values), "unit": unit, "cpu_us": [],
                          "target": target, "verdict": verdict, "note": "" if values else "not measured"})

    def missing(self, workload, what, why):
        self.rows.append({"kind": "missing", "workload": workload, "what": what, "values": [], "unit": "", "cpu_us": [], "note": why})

    def failed(self):
        return [r for r in self.rows if r.get("verdict") == "FAIL" or r["kind"] == "missing" and r["note"].startswith("failed")]

    def table(self):
        head = ["workload", "what", "median (min..max)", "unit", "server CPU us/task", "target", ""]
        lines, last = [], None
        for r in self.rows:
            note = r.get("verdict") or r["note"]
            lines.append([r["workload"] if r["workload"] != last else "", r["what"], spread(r["values"]), r["unit"], spread(r["cpu_us"]),
                          r.get("target", ""), note])
            last = r["workload"]
        widths = [max(len(line[i]) for line in [head] + lines) for i in range(len(head))]
        show = lambda line: "  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip()
        return "\n".join([show(head), "  ".join("-" * w for w in widths)] + [show(line) for line in lines])

    def write_json(self, path, header):
        for r in self.rows:
            r["median"] = statistics.median(r["values"]) if r["values"] else None
            r["cpu_us_median"] = statistics.median(r["cpu_us"]) if r["cpu_us"] else None
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"header": header, "rows": self.rows}, f, indent=1)
            f.write("\n")
