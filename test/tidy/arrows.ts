/**
 * Who may import whom (DESIGN: the rooms): main -> service -> api -> kernel, store -> api; never sideways, never up. A
 * service sees another only through its api.ts: its types and constants (error codes, limits, topics) anywhere, its contract
 * where clients are made, in main.ts.
 */
import { type Import, importsOf, type Tree } from "./tree.ts";
import { inSource } from "./rules.ts";

/** Where a file lives: the kernel, a room (a service or a device service), node, cli, or the top of src. */
interface Place {
  readonly room: string;
  readonly kind: "kernel" | "service" | "device" | "node" | "cli" | "top";
  readonly role: "api" | "codes" | "service" | "store" | "main" | "noun";
}

const ROLES: { readonly [name: string]: Place["role"] } = {
  "api.ts": "api",
  // The error codes of a service of many nouns: a part of the contract that each <noun>.api.ts stands on.
  "codes.ts": "codes",
  "service.ts": "service",
  "store.ts": "store",
  "main.ts": "main",
};

function placeOf(file: string): Place {
  const [, first = "", second = "", third] = file.split("/");
  const name = file.slice(file.lastIndexOf("/") + 1);
  const role = name.endsWith(".api.ts") ? "api" : (ROLES[name] ?? "noun");
  if (first === "services" || first === "devices") {
    return {
      room: third === undefined ? `src/${first}` : `src/${first}/${second}`,
      kind: first === "services" ? "service" : "device",
      role,
    };
  }
  if (first === "kernel" || first === "node" || first === "cli") return { room: `src/${first}`, kind: first, role };
  return { room: "src", kind: "top", role };
}

/** What every device service is made of: a device service may use all of it. */
const SDK = "src/devices/sdk";

export function wrongArrows(tree: Tree): string[] {
  return inSource(tree).flatMap((file) => {
    // The one file that knows every service.
    if (file.path === "src/main.ts") return [];
    return importsOf(file).flatMap((each) => {
      const reason = each.file === undefined ? undefined : refusal(file.path, each, each.file);
      return reason === undefined ? [] : [`${file.path}:${each.line} imports ${each.from}: ${reason}`];
    });
  });
}

function refusal(from: string, each: Import, file: string): string | undefined {
  // What services of others are made of, gathered from everywhere.
  if (from.startsWith("src/kit/")) return undefined;
  if (!file.startsWith("src/")) return "code in src stands on nothing outside of it";
  const here = placeOf(from);
  const there = placeOf(file);
  if (there.kind === "kernel") return undefined;
  if (here.kind === "kernel") return "the kernel knows no service";
  if (file === "src/main.ts") return "nothing imports src/main.ts";
  if (here.room === there.room)
    return here.kind === "service" || here.kind === "device" ? withinRoom(here, each, there) : undefined;
  // The command line starts the supervisor and asks it; the supervisor hands every process the registry's client.
  if (here.kind === "cli" && there.kind === "node") return undefined;
  if (here.kind === "node" && file === "src/services/registry/client.ts") return undefined;
  if (there.kind === "node" || there.kind === "cli") return "only src/main.ts knows node and cli";
  if (there.kind === "top") return undefined;
  if (here.kind === "device" && there.room === SDK) return undefined;
  if (there.role !== "api") return `${here.room} sees ${there.room} only through its api.ts`;
  // The far end of the uplink is no service of this house: its client is made where the link is, with an identity of its own.
  if (here.room === "src/services/pipeline" && there.room === "src/services/cloud") return undefined;
  if (each.types || here.role === "main" || here.kind === "node" || here.kind === "cli") return undefined;
  if (each.values.length > 0 && each.values.every((name) => /^[A-Z][A-Z0-9_]*$/.test(name))) return undefined;
  return `only main.ts takes another service's contract as a value: import the type, and be handed a client`;
}

/** The same few files in each room: main -> service -> api, store -> api; a noun is the domain's, like the service. */
function withinRoom(here: Place, each: Import, there: Place): string | undefined {
  if (there.role === "main") return "main.ts is where a service begins; nothing in the room stands on it";
  if (here.role === "main") return undefined;
  if (there.role === "codes") return undefined;
  if (here.role === "api" || here.role === "codes") {
    return here.role === "api" && there.role === "api" ? undefined : "the contract knows nothing of what is behind it";
  }
  if (there.role === "store" && !each.types && here.role !== "store") return "the store is handed in: import its type";
  if (there.role === "service" && !each.types) return "arrows run main -> service -> api, never up";
  return undefined;
}
