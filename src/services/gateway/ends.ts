/** What answers at the end of a route's steps: a service, several, the bus, a file, or the gateway itself. */
import { join } from "node:path";
import { compose } from "./compose/compose.ts";
import type { GrpcSettings } from "./grpc.api.ts";
import { Policy, policedCommand } from "./access/policy.ts";
import type { Parts } from "./parts.ts";
import type { RouteRule, RouteSettings, RoutesFile } from "./routes.api.ts";
import { pathWriter } from "./routes/template.ts";
import { files } from "./static/files.ts";
import { redirect, respond } from "./static/respond.ts";
import { topics } from "./translate/topics.ts";
import { forward } from "./upstream/forward.ts";
import { keyReader } from "./upstream/key.ts";
import { split } from "./upstream/split.ts";
import { triesOf } from "./upstream/tries.ts";
import { websocket } from "./upstream/websocket.ts";
import { chain, type Handler, lazily, type Visit } from "./visit.ts";
import type { WebSocketSettings } from "./websocket.api.ts";

/** In the gateway's own directory: what routes with files give, and the descriptors of gRPC. */
const FILES_DIRECTORY = "files";
const GRPC_DIRECTORY = "grpc";

/** Makes what a route of the routes file ends in. */
export function endOf(parts: Parts, file: RoutesFile, rule: RouteRule): Handler {
  const { path } = rule.match;
  if (rule.compose)
    return compose({
      settings: rule.compose,
      pattern: path.slice(1).split("/"),
      handlerOf: (part) => toCommand(parts, file, rule, { upstream: part.upstream }),
    });
  if (rule.respond) return respond(rule.respond);
  if (rule.topic) return topics({ bus: parts.bus, settings: rule.topic, websocket: rule.websocket, pattern: path });
  if (rule.mqtt) return toBus(parts, rule.mqtt);
  if (rule.grpc) return toGrpc(parts, file, rule, rule.grpc);
  if (rule.redirect) return redirect(rule.redirect, path);
  if (rule.files) {
    const depth = path.split("/").length - 2;
    return files(rule.files, { root: join(parts.directory, FILES_DIRECTORY), depth });
  }
  return split(
    (rule.to ?? []).map((target) => ({ weight: target.weight, handle: toTarget(parts, file, rule, target) })),
  );
}

// What few nodes use is loaded when a route asks for it.
const toBus = ({ balancer, connections, clock }: Parts, settings: WebSocketSettings): Handler =>
  lazily(async () => (await import("./translate/mqtt.ts")).mqtt({ settings, balancer, connections, clock }));

function toGrpc(parts: Parts, file: RoutesFile, rule: RouteRule, settings: GrpcSettings): Handler {
  const { balancer, connections, directory } = parts;
  return lazily(async () => {
    const { grpc } = await import("./grpc/grpc.ts");
    return grpc({
      settings,
      pattern: rule.match.path,
      directory: join(directory, GRPC_DIRECTORY),
      balancer,
      connections,
      inside: !(settings.upstream in file.upstreams),
      passErrors: rule.errors === "pass",
    });
  });
}

interface Place {
  readonly upstream: string;
  readonly path?: string | undefined;
}

/** To a place that nothing was asked about before. */
export const toCommand = (parts: Parts, file: RoutesFile, rule: RouteRule, place: Place): Handler =>
  chain(
    [commanding(parts, file, place.upstream, pathOf(place.path, rule.match.path))],
    toTarget(parts, file, rule, place),
  );

function toTarget(parts: Parts, file: RoutesFile, rule: RouteRule, { upstream: service, path }: Place): Handler {
  const writing = pathOf(path, rule.match.path);
  const inside = !(service in file.upstreams);
  if (rule.websocket) {
    const { balancer, connections, clock } = parts;
    return websocket({ service, settings: rule.websocket, balancer, connections, clock, inside, pathOf: writing });
  }
  return forward({
    ...sending(parts, rule, service),
    operation: rule.name,
    service,
    safe: rule.safe,
    inside,
    passErrors: rule.errors === "pass",
    passAuthorization: rule.authorization === "pass",
    pathOf: writing,
  });
}

/** How a route's requests are sent to an upstream. */
export function sending({ balancer, upstream, metrics }: Parts, settings: RouteSettings, service: string) {
  const group = balancer.group(service);
  if (settings.hedge) group.measured = true;
  return { upstream, metrics, tries: triesOf(settings), keyOf: keyReader(group.settings) };
}

/** Asks whether somebody may command a device, where a policy is about devices. */
export const commanding = ({ log }: Parts, { policy }: RoutesFile, service: string, path: (visit: Visit) => string) =>
  policy.some(({ devices }) => devices)
    ? policedCommand(new Policy(policy), log, { service, pathOf: path })
    : undefined;

/** Writes the path that an upstream is asked for. */
export function pathOf(template: string | undefined, pattern: string): (visit: Visit) => string {
  const write = pathWriter(template, pattern);
  return ({ target }) => write(target!);
}
