// The whole of the outside world, for the composition root of a process. Parts ask for the smallest slice of it.

import type { Log } from "./log.ts";
import type { Net } from "./net.ts";
import type { Disk } from "./storage.ts";
import type { Clock, Rng, Timers } from "./time.ts";

export interface Host {
  /** Name of this process in logs and object names: letters, digits, '-'. */
  readonly name: string;
  /** A broken assertion or lost fencing ends the process: production exits, the simulator kills the node. */
  crash(reason: string): never;
}

export interface Env {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly rng: Rng;
  readonly net: Net;
  readonly disk: Disk;
  readonly log: Log;
  readonly host: Host;
}
