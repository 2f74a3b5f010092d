/** What the program of a service of one's own is made with, when `holdfast run` bundles it; nothing to import. */
export { roleOfGuest } from "../node/guests/role.ts";
