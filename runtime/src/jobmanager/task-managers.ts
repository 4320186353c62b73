// The registered TaskManagers and the connections to them.
//
// Invariants (tests cite them):
//   TR1. One registration per TaskManager id: who registers again was lost before.
//   TR2. `onLost` follows every `onRegistered`, once.
//   TR3. Every message is checked against its shape before anybody acts on it; nonsense ends the connection.
//
// Not here: what follows from messages (job-master.ts).

import { Failure } from "@sluice/kit";
import type { Listener } from "@sluice/kit/env";
import { listenRpc, parse, registerRequest, taskManagerMessage, taskManagerReport } from "../rpc/index.ts";
import type { RegisterRequest, RpcOptions, RpcPeer, TaskManagerMessage, TaskManagerReport } from "../rpc/index.ts";

/** A registered TaskManager, as the JobManager knows it. */
export interface TaskManagerEntry {
  readonly registration: RegisterRequest;
  readonly peer: RpcPeer;
  lastHeartbeatWallMs: number;
  report: TaskManagerReport | undefined;
}

export interface TaskManagersOptions {
  readonly rpc: RpcOptions;
  readonly onRegistered: (entry: TaskManagerEntry) => void;
  readonly onLost: (entry: TaskManagerEntry, failure: Failure) => void;
  readonly onMessage: (entry: TaskManagerEntry, message: TaskManagerMessage) => void;
}

export class TaskManagers {
  readonly #options: TaskManagersOptions;
  readonly #entries = new Map<string, TaskManagerEntry>();
  #listener: Listener | undefined;

  constructor(options: TaskManagersOptions) {
    this.#options = options;
  }

  /** Returns the address as bound. Rejects with ADDRESS_IN_USE. */
  async listen(address: string): Promise<string> {
    this.#listener = await listenRpc(this.#options.rpc, address, (peer) => this.#adopt(peer));
    return this.#listener.address;
  }

  get(id: string): TaskManagerEntry | undefined {
    return this.#entries.get(id);
  }

  all(): readonly TaskManagerEntry[] {
    return [...this.#entries.values()];
  }

  get slotCount(): number {
    return this.all().reduce((sum, { registration }) => sum + registration.slotCount, 0);
  }

  /** Ends all connections. */
  close(reason: string): void {
    this.#listener?.close();
    for (const { peer } of this.all()) peer.close(new Failure("CANCELED", { retry: "never", message: reason }));
  }

  #adopt(peer: RpcPeer): void {
    let entry: TaskManagerEntry | undefined;
    peer.start({
      onMessage: (body) => {
        const parsed = parse(taskManagerMessage, body);
        if ("problem" in parsed)
          peer.violation(parsed.problem); // TR3
        else if (entry === undefined) peer.violation("a message before its registration");
        else this.#options.onMessage(entry, parsed.ok);
      },
      onRequest: async (body) => {
        const parsed = parse(registerRequest, body);
        if ("problem" in parsed) throw new Failure("PROTOCOL_VIOLATION", { retry: "never", message: parsed.problem });
        if (entry !== undefined)
          throw new Failure("PROTOCOL_VIOLATION", { retry: "never", message: "registered twice" });
        entry = this.#register(peer, parsed.ok);
        return Promise.resolve({});
      },
      onHeartbeat: (body) => {
        const parsed = parse(taskManagerReport, body);
        if (entry === undefined) return; // before its registration
        entry.lastHeartbeatWallMs = this.#options.rpc.env.clock.wallMs();
        if ("ok" in parsed) entry.report = parsed.ok;
        else peer.violation(parsed.problem);
      },
      onClose: (failure) => {
        if (entry === undefined || this.#entries.get(entry.registration.taskManagerId) !== entry) return;
        this.#entries.delete(entry.registration.taskManagerId);
        this.#options.onLost(entry, failure); // TR2
      },
    });
  }

  #register(peer: RpcPeer, registration: RegisterRequest): TaskManagerEntry {
    const { taskManagerId } = registration;
    if (taskManagerId !== peer.identity.id || registration.slotCount < 1) {
      throw new Failure("PEER_REJECTED", {
        retry: "never",
        message: `TaskManager ${peer.identity.id} registers as ${taskManagerId} with ${registration.slotCount} slots`,
      });
    }
    const before = this.#entries.get(taskManagerId);
    before?.peer.close(
      new Failure("PEER_LOST", { retry: "backoff", message: `TaskManager ${taskManagerId} started anew` }),
    ); // TR1
    const entry: TaskManagerEntry = {
      registration,
      peer,
      lastHeartbeatWallMs: this.#options.rpc.env.clock.wallMs(),
      report: undefined,
    };
    this.#entries.set(taskManagerId, entry);
    this.#options.onRegistered(entry);
    return entry;
  }
}
