// `npm run peers`: builds or gets every peer that this machine can have, and says which it cannot.

import { PEERS, peersRequired } from "./index.ts";

let missing = 0;
for (const peer of PEERS) {
  const state = await peer.prepare((line) => console.log(line));
  if (!state.available) missing += 1;
  console.log(state.available ? `ok       ${peer.name}: ${state.program}` : `missing  ${peer.name}: ${state.reason}`);
}
process.exitCode = missing > 0 && peersRequired() ? 1 : 0;
