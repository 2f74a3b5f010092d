/** Writes docs/config.md from the schemas: what every key means, its form, default and an example. */
import { type ConfigSchema, type ConfigSection, expected } from "../kernel/config.ts";
import { allDoors, type Manifest } from "./manifest.ts";

const HEAD = `# Config

Everything has a default: a node needs no config. One file, YAML 1.2 (JSON is YAML, too), looked for at \`--config\`, at
\`$HOLDFAST_CONFIG\`, then as \`holdfast.yaml\` in the state directory. A section a service, under its key; the node's own is
\`node\`. The checks are strict: an unknown key, or a value of another form, refuses to start and says which and what was
expected. Units stand last in a name. This page is written by \`bin/node test/config-page.ts\` from the schemas.

\`\`\`yaml
node:
  doors:
    gateway.https: { host: 0.0.0.0, port: 443 }
bus:
  sizeBytesMax: 1073741824
\`\`\`
`;

interface Row {
  readonly key: string;
  readonly schema: ConfigSchema;
}

/** Makes the page. */
export function configPage(sections: readonly ConfigSection[], manifests: readonly Manifest[]): string {
  const parts = sections.map(({ key, schema }) => {
    const rows = rowsOf(schema, "");
    return rows.length === 0 ? `## ${key}\n\nNothing to configure.\n` : `## ${key}\n\n${table(rows)}`;
  });
  return [HEAD, ...parts, doors(manifests)].join("\n");
}

function rowsOf(schema: ConfigSchema, prefix: string): Row[] {
  return Object.entries(schema.properties ?? {}).flatMap(([key, inner]) => {
    const path = `${prefix}${key}`;
    return [{ key: path, schema: inner }, ...rowsBelow(inner, path)];
  });
}

function rowsBelow(schema: ConfigSchema, path: string): Row[] {
  const named = Object.values(schema.patternProperties ?? {});
  if (named.length > 0) return named.flatMap((each) => rowsBelow(each, `${path}.NAME`));
  if (schema.items) return rowsBelow(schema.items, `${path}[]`);
  const sections = (schema.anyOf ?? [schema]).filter(({ properties }) => properties);
  // A section or a word in its place is one of a kind.
  return sections.length === 1 ? rowsOf(sections[0], `${path}.`) : rowsOfKinds(sections, path);
}

/** Sections that differ by a constant key: what several have in common is told once, with whose it is. */
function rowsOfKinds(ways: readonly ConfigSchema[], path: string): Row[] {
  const rows = new Map<string, { row: Row; kinds: string[] }>();
  for (const way of ways) {
    const [kind, tag] = Object.entries(way.properties ?? {}).find(([, inner]) => inner.const !== undefined) ?? [];
    if (kind === undefined || tag === undefined) continue;
    for (const row of rowsOf(way, `${path}.`)) {
      if (row.schema.const !== undefined) continue;
      const id = JSON.stringify(row);
      const known = rows.get(id);
      if (known) known.kinds.push(String(tag.const));
      else rows.set(id, { row, kinds: [String(tag.const)] });
    }
  }
  return [...rows.values()].map(({ row, kinds }) => ({
    ...row,
    schema: { ...row.schema, description: `(${kinds.join(", ")}) ${row.schema.description ?? ""}` },
  }));
}

function table(rows: readonly Row[]): string {
  const lines = rows.map(({ key, schema }) => {
    const cells = [
      `\`${key}\``,
      cell(schema.description ?? ""),
      cell(expected(schema)),
      value(schema.default),
      value(schema.example),
    ];
    return `| ${cells.join(" | ")} |`;
  });
  return ["| key | meaning | form | default | example |", "|---|---|---|---|---|", ...lines, ""].join("\n");
}

const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ");
const value = (given: unknown): string => (given === undefined ? "" : `\`${cell(JSON.stringify(given))}\``);

function doors(manifests: readonly Manifest[]): string {
  const when = {
    always: "always",
    configured: "where `node.doors` has it, even without host and port: `{}`",
    "open-edgex": "with `--open-edgex`",
  };
  const spoken = { udp: " (UDP)", both: " (TCP and UDP)" };
  const rows = manifests.flatMap((m) =>
    allDoors(m).map(
      (door) =>
        `| \`${m.name}.${door.name}\` | ${door.port}${door.protocol ? spoken[door.protocol] : ""} | ${when[door.when]} |`,
    ),
  );
  return [
    "## Doors",
    "",
    "All listen on 127.0.0.1 unless `node.doors` says otherwise; those without TLS, of `--open-edgex` and those",
    "that are open only where they are named, on loopback only.",
    "",
    "| door | port | open |",
    "|---|---|---|",
    ...rows,
    "",
  ].join("\n");
}
