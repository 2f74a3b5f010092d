/** The route that ships with the gateway: all about a device in one answer. A route of the file at the same path goes before it. */
import { checkRoutes, type RouteRule } from "../routes.api.ts";

const device = "core-metadata";

export const OVERVIEW: RouteRule = checkRoutes(
  {
    routes: [
      {
        name: "overview-device",
        match: { path: "/api/overview/device/{name}", methods: ["GET"] },
        access: { scope: "device:read" },
        compose: {
          parts: {
            device: { upstream: device, path: "/api/v3/device/name/{name}", take: "device", required: true },
            profile: { upstream: device, path: "/api/v3/deviceprofile/name/{device.profileName}", take: "profile" },
            readings: {
              upstream: "core-data",
              path: "/api/v3/reading/device/name/{name}?limit=20",
              take: "readings",
              scope: "reading:read",
              default: [],
            },
            commands: {
              upstream: "core-command",
              path: "/api/v3/device/name/{name}",
              take: "deviceCoreCommand.coreCommands",
              default: [],
            },
            // Which instances of its device service there are, and how they are.
            health: {
              upstream: "core-keeper",
              path: "/registry/instances?service={device.serviceName}",
              take: "instances",
              scope: "node:read",
            },
          },
        },
      },
    ],
  },
  "the gateway's own routes",
).routes[0];
