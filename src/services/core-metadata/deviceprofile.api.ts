/** Device profiles, on the wire as EdgeX v3 has them. */
import { Type } from "typebox";
import { del, get, post, put } from "../../kernel/contract.ts";
import { DeviceProfile, DeviceResource, ItemResults, Labels, Name, Page, requestOf } from "../../kernel/edgex.ts";
import { METADATA_IN_USE, METADATA_PROFILE_UNKNOWN, METADATA_RANGE } from "./codes.ts";

const Profiles = Type.Object({ totalCount: Type.Integer(), profiles: Type.Array(DeviceProfile) });
const readers = ["core-data", "core-command", "pipeline", "device-*", "gateway"];
const read = { scope: "device:read" };
const write = { scope: "device:write" };
const ProfileRequests = Type.Union([Type.Array(requestOf("profile", DeviceProfile)), Type.Null()]);

export const profileOperations = {
  addProfiles: post("/api/v3/deviceprofile", {
    summary: "Adds device profiles.",
    input: { body: ProfileRequests },
    output: ItemResults,
    status: 207,
    callers: ["device-*"],
    public: write,
  }),
  updateProfiles: put("/api/v3/deviceprofile", {
    summary: "Replaces device profiles, named by id or name; a body of null changes nothing and answers null.",
    input: { body: ProfileRequests },
    output: ItemResults,
    status: 207,
    callers: ["device-*"],
    public: write,
  }),
  allProfiles: get("/api/v3/deviceprofile/all", {
    summary: "Lists device profiles, of all labels named.",
    input: { ...Page, labels: Type.Optional(Labels) },
    output: Profiles,
    errors: [METADATA_RANGE],
    callers: readers,
    public: read,
  }),
  profileByName: get("/api/v3/deviceprofile/name/:name", {
    summary: "Tells a device profile by its name.",
    input: { name: Name },
    output: Type.Object({ profile: DeviceProfile }),
    errors: [METADATA_PROFILE_UNKNOWN],
    callers: readers,
    public: read,
  }),
  deleteProfile: del("/api/v3/deviceprofile/name/:name", {
    summary: "Removes a device profile that no device or watcher uses.",
    input: { name: Name },
    output: Type.Object({}),
    errors: [METADATA_PROFILE_UNKNOWN, METADATA_IN_USE],
    public: write,
  }),
  resourceOfProfile: get("/api/v3/deviceresource/profile/:profileName/resource/:resourceName", {
    summary: "Tells one device resource of a profile.",
    input: { profileName: Name, resourceName: Name },
    output: Type.Object({ resource: DeviceResource }),
    errors: [METADATA_PROFILE_UNKNOWN],
    callers: readers,
    public: read,
  }),
};
