// For tests that need a peer: they run, or are listed as skipped with the reason, or fail when peers are required.

import { describe, test } from "@jest/globals";

import { peersRequired } from "./peer.ts";
import type { Peer } from "./peer.ts";

/** What `npm test` looks for in the names of skipped tests to print the reasons. */
export const SKIPPED_BECAUSE = "skipped because";

/** A `describe` whose tests need `peer`; call it where `describe` would stand. */
export function describeWithPeer(peer: Peer, name: string, body: () => void): void {
  const state = peer.find();
  if (state.available) {
    describe(name, body);
  } else if (peersRequired()) {
    describe(name, () => {
      test(`needs ${peer.name}`, () => {
        throw new Error(`SLUICE_REQUIRE_PEERS=1, but ${state.reason}`);
      });
    });
  } else {
    describe.skip(`${name} (${SKIPPED_BECAUSE} ${state.reason})`, body);
  }
}
