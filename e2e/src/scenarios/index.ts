// All scenarios, in the order in which they begin: the longest first, so that none is left over at the end.

import type { Scenario } from "../scenario.ts";
import { DATA } from "./data.ts";
import { KILLS } from "./kills.ts";
import { LIFECYCLE } from "./lifecycle.ts";
import { MEASURE } from "./measure.ts";
import { NODES } from "./nodes.ts";
import { README_SCENARIOS } from "./readme.ts";
import { REFUSALS } from "./refusals.ts";
import { SOURCES } from "./sources.ts";
import { UPGRADES } from "./upgrades.ts";

export const SCENARIOS: readonly Scenario[] = [
  ...MEASURE,
  ...NODES,
  ...REFUSALS,
  ...KILLS,
  ...README_SCENARIOS,
  ...DATA,
  ...SOURCES,
  ...LIFECYCLE,
  ...UPGRADES,
];
