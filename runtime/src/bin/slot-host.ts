// Slots as worker threads of this process, and the I/O thread they all talk to.
//
// Invariants:
//   SH1. A slot's thread is never used twice (SL1).
//   SH2. What user code prints goes to standard output in whole lines, and no such line is taken for a ProcessEvent.
//   SH3. A TaskManager without its I/O thread is useless: the process ends with it.

import { createInterface } from "node:readline";
import { MessageChannel, Worker, type WorkerOptions } from "node:worker_threads";

import { assert } from "@sluice/kit";
import type { Host, LogLevel } from "@sluice/kit/env";
import type { HeapFigures } from "../metrics/index.ts";
import { heapFigures } from "../metrics/index.ts";
import type { SlotSpec } from "../model/index.ts";
import type { SlotWorkerData } from "../task/index.ts";
import type { IoCommand, IoEvent, IoGate, SlotExit, SlotHandlers, SlotHost, SlotThread } from "../taskmanager/index.ts";
import { allocateCollections } from "./collections.ts";
import type { AttachSlot, IoWorkerData } from "./io-worker.ts";
import { besides, type S3Access, userEnvironment } from "./process-shell.ts";

/** What a slot's thread gets besides its slot. */
export interface SlotThreadData<Port> {
  readonly ioPort: Port;
  s3: S3Access | undefined;
  /** For what it counts of its heap's collections. */
  readonly collections: Float64Array;
}

export class IoThread implements IoGate {
  readonly #worker: Worker;

  constructor(options: {
    readonly data: IoWorkerData;
    /** Undefined: V8's own limit. */
    readonly heapBytesMax: number | undefined;
    readonly host: Host;
    readonly onEvent: (event: IoEvent) => void;
  }) {
    this.#worker = new Worker(besides("io-worker"), {
      workerData: options.data,
      name: "io",
      ...heapLimit(options.heapBytesMax),
    });
    this.#worker.on("message", options.onEvent);
    this.#worker.on("error", (error) => options.host.crash(`the I/O thread died: ${String((error as Error).message)}`)); // SH3
    this.#worker.on("exit", (code) => options.host.crash(`the I/O thread ended with exit code ${code}`));
  }

  post(command: IoCommand): void {
    this.#worker.postMessage(command);
  }

  attach(message: AttachSlot): void {
    this.#worker.postMessage(message, [message.port]);
  }
}

export class ThreadSlotHost implements SlotHost {
  readonly #io: IoThread;
  readonly #logLevel: LogLevel;
  readonly #heapBytesMax: number | undefined;
  readonly #s3: S3Access;
  readonly #workers = new Set<Worker>();
  readonly #heaps = new Map<Worker, HeapFigures>();
  /** What the slots' threads count of their collections, and the sum of those that are gone. */
  readonly #collections = new Map<Worker, Float64Array>();
  readonly #collectionsBefore = allocateCollections();

  constructor(options: {
    readonly io: IoThread;
    readonly logLevel: LogLevel;
    readonly heapBytesMax: number | undefined;
    /** For sinks that write to S3; user code does not see it (SW4). */
    readonly s3: S3Access;
  }) {
    this.#io = options.io;
    this.#logLevel = options.logLevel;
    this.#heapBytesMax = options.heapBytesMax;
    this.#s3 = options.s3;
  }

  start(spec: SlotSpec, handlers: SlotHandlers): SlotThread {
    const { port1, port2 } = new MessageChannel();
    const collections = allocateCollections();
    const data: SlotWorkerData & SlotThreadData<typeof port1> = {
      spec,
      logLevel: this.#logLevel,
      ioPort: port1,
      s3: this.#s3,
      collections,
    };
    const worker = new Worker(besides("slot-worker"), {
      name: `slot-${spec.slotIndex}`,
      workerData: data,
      transferList: [port1],
      env: userEnvironment(spec.plan.environment),
      stdout: true,
      stderr: true,
      ...heapLimit(this.#heapBytesMax),
    });
    this.#io.attach({ type: "attachSlot", origin: { epoch: spec.epoch, attempt: spec.attempt }, port: port2 });
    passOn(worker); // SH2
    worker.stderr.pipe(process.stderr, { end: false });
    this.#workers.add(worker);
    this.#collections.set(worker, collections);
    let error: SlotExit["error"];
    worker.on("message", (event) => handlers.onEvent(event));
    worker.on("error", (thrown: unknown) => {
      const { code, message, stack } = thrown as {
        readonly code?: unknown;
        readonly message?: unknown;
        readonly stack?: unknown;
      };
      error = {
        code: typeof code === "string" ? code : "",
        message: String(message ?? thrown),
        stack: typeof stack === "string" ? stack : "",
      };
    });
    worker.on("exit", (code) => {
      assert(this.#workers.delete(worker), "SH1: a thread ends once");
      this.#heaps.delete(worker);
      this.#collections
        .get(worker)
        ?.forEach((value, i) => (this.#collectionsBefore[i] = (this.#collectionsBefore[i] ?? 0) + value));
      this.#collections.delete(worker);
      handlers.onExit({ code, error });
    });
    return { terminate: () => void worker.terminate() };
  }

  /** Collections of all slots so far, those that are gone included. */
  collections(): readonly Float64Array[] {
    return [this.#collectionsBefore, ...this.#collections.values()];
  }

  /** Heaps as last seen; asks for newer ones. */
  heaps(): readonly HeapFigures[] {
    for (const worker of this.#workers) {
      worker.getHeapStatistics().then(
        (statistics) => this.#workers.has(worker) && this.#heaps.set(worker, heapFigures(statistics)),
        () => this.#heaps.delete(worker), // it ended meanwhile
      );
    }
    return [...this.#heaps.values()];
  }
}

function heapLimit(bytes: number | undefined): Pick<WorkerOptions, "resourceLimits"> {
  return bytes === undefined ? {} : { resourceLimits: { maxOldGenerationSizeMb: Math.ceil(bytes / 2 ** 20) } };
}

/** SH2. A supervisor knows events by their beginning; a blank before it makes a line of a user an ordinary one. */
function passOn(worker: Worker): void {
  createInterface({ input: worker.stdout }).on("line", (line) => {
    process.stdout.write(`${line.startsWith('{"event":') ? " " : ""}${line}\n`);
  });
}
