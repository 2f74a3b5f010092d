/** How ids that strangers chose are kept. */
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** A UUID is kept in 16 bytes; any other id as it is. */
export const idKey = (id: string): Uint8Array | string =>
  UUID.test(id) ? Buffer.from(id.replaceAll("-", ""), "hex") : id;
