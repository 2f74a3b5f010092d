import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { parse } from "yaml";

const ROOT = path.dirname(import.meta.dirname);
const read = (file: string): string => readFileSync(path.join(ROOT, file), "utf8");
const listed = new Set([...read("docs/metrics.md").matchAll(/^\| `(holdfast_\w+)`/gm)].map(([, name]) => name));

/** The metrics in an expression, histograms by their own name. */
const namesIn = (text: string): string[] =>
  [...text.matchAll(/\bholdfast_\w+/g)].map(([name]) => name.replace(/_(bucket|sum|count)$/, ""));

interface Panel {
  readonly id: number;
  readonly title: string;
  readonly gridPos: { readonly x: number; readonly y: number };
  readonly targets: readonly { readonly expr: string }[];
}
interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string };
}

test("every metric of the dashboard and of the alerts is one that a scrape tells", () => {
  const used = [...namesIn(read("deploy/grafana/dashboard.json")), ...namesIn(read("deploy/grafana/alerts.yaml"))];
  assert.ok(new Set(used).size > 15);
  assert.deepEqual(
    used.filter((name) => !listed.has(name)),
    [],
  );
  assert.ok(!listed.has("holdfast_no_such_metric"));
});

test("the dashboard has panels of their own places, each with a question", () => {
  const { panels } = JSON.parse(read("deploy/grafana/dashboard.json")) as { panels: Panel[] };
  assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  assert.equal(new Set(panels.map(({ gridPos }) => `${gridPos.x} ${gridPos.y}`)).size, panels.length);
  for (const { title, targets } of panels)
    assert.ok(
      targets.every(({ expr }) => namesIn(expr).length > 0),
      title,
    );
});

test("every alert has a name of its own, a severity, and a sentence that says what is", () => {
  const { groups } = parse(read("deploy/grafana/alerts.yaml")) as { groups: { rules: Rule[] }[] };
  const rules = groups.flatMap((group) => group.rules);
  assert.equal(new Set(rules.map(({ alert }) => alert)).size, rules.length);
  for (const { alert, expr, labels, annotations } of rules) {
    assert.match(labels.severity, /^(warning|critical)$/, alert);
    assert.ok(annotations.summary.length > 20 && namesIn(expr).length > 0, alert);
  }
});
