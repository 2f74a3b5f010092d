/** What a service may do beyond what every one may: stated by the composition root, told to the sandbox. */

export interface Rights {
  /** It resolves host names (and for that opens UDP sockets). */
  readonly names?: boolean;
  /** It connects to places that the node's config names (`node.connectPorts`), with these ports unless the config has others. */
  readonly connectPorts?: readonly number[];
}

export type RightsTable = Readonly<Record<string, Rights>>;
