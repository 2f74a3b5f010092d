/** Provision watchers: what device services ask for at their start. */
import { Type } from "typebox";
import { get } from "../../kernel/contract.ts";
import { Free, Name, Page } from "../../kernel/edgex.ts";

export const watcherOperations = {
  watchersByService: get("/api/v3/provisionwatcher/service/name/:name", {
    summary: "Lists the provision watchers of a device service.",
    input: { name: Name, ...Page },
    output: Type.Object({ totalCount: Type.Integer(), provisionWatchers: Type.Array(Free) }),
    callers: ["device-*", "gateway"],
    public: { scope: "device:read" },
  }),
};
