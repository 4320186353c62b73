// How the processes of a job are started: their configuration and the first line they print.
//
// Invariants:
//   PR1. A process reads its configuration as JSON from the file named by `--config`; the secret comes by the environment
//        variable SLUICE_SECRET only, never by arguments or files that others may read.
//   PR2. Standard output carries ProcessEvent lines as JSON and what user code prints; logs go to standard error.

/** Where checkpoints live. Credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY). */
export interface StoreConfig {
  /** `file:///dir` or `s3://bucket/prefix`. */
  readonly uri: string;
  /** `http://host:port` of an S3 endpoint that is not AWS. */
  readonly endpoint?: string;
  readonly region?: string;
  /** false: the bucket is part of the host name. */
  readonly pathStyle?: boolean;
}

/** How stores in S3 are reached, whichever they are. */
export type S3Config = Pick<StoreConfig, "endpoint" | "region" | "pathStyle">;

export interface JobManagerConfig {
  readonly jobName: string;
  readonly namespace: string;
  /** Identity of the submitted resource (operator) or of the name on this machine (CLI); recorded in the commit log. */
  readonly uid: string;
  /** file: URL of the module, passed on to TaskManagers. */
  readonly moduleUrl: string;
  /** Path of the plan JSON made by the plan process. */
  readonly planPath: string;
  /** Effective Flink-named configuration (plan's merged with the command line's). */
  readonly configuration: Readonly<Record<string, string>>;
  readonly store: StoreConfig | undefined;
  /** `host:port`, port 0 for any. */
  readonly rpcAddress: string;
  readonly restAddress: string;
  /**
   * What to do with an existing commit log (checkpoint/decideStart). The same for every restart of a process: `lineage` says whether
   * the log is its own already, and then `newLineage` and `from` mean nothing any more.
   */
  readonly start: {
    /**
     * Lineage to create if one has to be created: drawn once per submission by whoever starts the JobManager, and the same
     * for every restart of it (checkpoint/StartRequest).
     */
    readonly lineage: string;
    readonly newLineage: boolean;
    readonly from: string | undefined;
    readonly allowReplay: number | undefined;
    /** False: a missing log is refused, because the job has run before. Default true. */
    readonly mayCreate?: boolean;
    /** What a log of another uid means (checkpoint/StartRequest); default `refuse`. */
    readonly onForeignLog?: "refuse" | "resume" | "newLineage";
    /** What whoever decided this start saw at the head of the log; `path`: of the directory or its `_metadata`, as people name it. */
    readonly expectHead?: { readonly id?: number | null; readonly path?: string };
    /** Keep what this start continues from until `POST /jobs/:id/unpin`. Default false. */
    readonly pinRestored?: boolean;
    /** Counts up over the starts and the processes of one uid: one that is below the recorded one is FENCED. */
    readonly order?: readonly number[];
  };
  readonly plantedBugs: readonly string[];
}

export interface TaskManagerConfig {
  /** Stable over restarts of the process in one place: letters, digits, '-'. */
  readonly id: string;
  readonly jobManagerAddress: string;
  /** `host:port` to listen on for data, port 0 for any. */
  readonly dataAddress: string;
  /** Host by which other TaskManagers reach it; default: the one it listens on. */
  readonly dataHost?: string;
  readonly metricsAddress: string;
  readonly slots: number;
  /** Directory of local snapshot copies and scratch files; survives a restart of the process in one place. */
  readonly workDir: string;
  readonly store: StoreConfig | undefined;
  /** Largest JavaScript heap of the I/O thread; default: V8's own limit. */
  readonly ioHeapBytes?: number;
  readonly configuration: Readonly<Record<string, string>>;
  readonly plantedBugs: readonly string[];
}

/** What the commit log says when the job has ended. */
export interface EndOfLog {
  readonly uid: string;
  readonly lineage: string;
  readonly submission: string;
  readonly seq: number;
  readonly jobState: "active" | "stopping" | "draining" | "stopped" | "finished" | "failed" | "cancelled";
  readonly closed: boolean;
  /** `path`: URI of its directory. */
  readonly head: { readonly id: number; readonly path: string } | null;
}

/** Lines on standard output. */
export type ProcessEvent =
  | {
      readonly event: "listening";
      readonly rpcAddress?: string;
      readonly restAddress?: string;
      readonly dataAddress?: string;
      readonly metricsAddress?: string;
    }
  /** The job has ended for good; exit code 0 for FINISHED and CANCELED, 1 for FAILED. */
  | {
      readonly event: "jobEnded";
      readonly state: "FINISHED" | "CANCELED" | "FAILED";
      readonly message: string;
      readonly log?: EndOfLog;
    }
  /** Somebody asked for the end of the processes, not of the job: they are not to be started again. */
  | { readonly event: "stopped"; readonly message: string }
  /** The process cannot start or go on; `message` holds code, what, where and remedy. The supervisor restarts it only when `retry` says so. */
  | {
      readonly event: "fatal";
      readonly code: string;
      readonly message: string;
      readonly remedy: string;
      readonly retry: "now" | "backoff" | "never";
    };
